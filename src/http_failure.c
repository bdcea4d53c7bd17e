/*
 * http_failure.c
 *	  Why there is no answer: a word that programs go by, and a sentence.
 *
 * The sentence begins with scheme, host and port.  The rest of the URL is not in
 * it, nor is anything else that was sent: it may hold a key.  What is taken from
 * the other side, such as what OpenSSL says of a certificate, is made printable.
 */
#include "http_transfer.h"

#include <openssl/x509_vfy.h>

/*
 * tb_http_make_ascii
 *		Replace what is not printable ASCII by question marks, in place.
 */
void
tb_http_make_ascii(char *words, size_t length)
{
	for (char *c = words; c < words + length; c++)
	{
		if (*c == '\t')
			*c = ' ';
		else if ((unsigned char) *c < ' ' || (unsigned char) *c > '~')
			*c = '?';
	}
}

/*
 * tb_http_fail
 *		Say that there is no answer, and why.  What was said first stays.
 */
void
tb_http_fail(HttpTransfer *transfer, const char *kind, const char *format,...)
{
	int			begun = 0;
	va_list		arguments;

	if (transfer->error_kind != NULL)
		return;
	transfer->error_kind = kind;
	if (transfer->place != NULL)
		begun = snprintf(transfer->error, sizeof(transfer->error), "%.200s: ",
						 transfer->place);
	va_start(arguments, format);
	vsnprintf(transfer->error + begun, sizeof(transfer->error) - begun, format, arguments);
	va_end(arguments);
	tb_http_make_ascii(transfer->error, strlen(transfer->error));
}

/* Whether any of the request has been sent */
static bool
has_been_sent(HttpTransfer *transfer)
{
	long		size = 0;

	return curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &size) == CURLE_OK &&
		size > 0;
}

/* A time-out, with how far it had come by then */
static void
explain_timeout(HttpTransfer *transfer)
{
	int			ms = transfer->duration_ms;

	if (transfer->header_lines > 0)
		tb_http_fail(transfer, "timeout",
					 "the answer was not complete after %d ms; %zu bytes of its body had come",
					 ms, transfer->received_length);
	else if (has_been_sent(transfer))
		tb_http_fail(transfer, "timeout", "no answer after %d ms", ms);
	else if (transfer->addresses_tried > 0)
		tb_http_fail(transfer, "timeout", "not connected after %d ms", ms);
	else
		tb_http_fail(transfer, "timeout",
					 "the name was not resolved after %d ms", ms);
}

/* Nobody could be connected to: because we did not want to, or they */
static void
explain_connect(HttpTransfer *transfer)
{
	if (transfer->refused_because != NULL && transfer->addresses_tried == 0)
		tb_http_fail(transfer, "address",
					 "its address %s is %s, and tokenbill.allow_private_addresses is off",
					 transfer->refused_address, transfer->refused_because);
	else
		tb_http_fail(transfer, "connect", "no connection could be made");
}

/*
 * The server's certificate is not good.  When everything about it is but the
 * name, OpenSSL has nothing to say.
 */
static void
explain_certificate(HttpTransfer *transfer)
{
	long		verified = X509_V_OK;

	curl_easy_getinfo(transfer->easy, CURLINFO_SSL_VERIFYRESULT, &verified);
	if (verified == X509_V_OK || verified == X509_V_ERR_UNSPECIFIED)
		tb_http_fail(transfer, "tls",
					 "its certificate is not one for this name");
	else
		tb_http_fail(transfer, "tls",
					 "its certificate is not accepted: %.100s",
					 X509_verify_cert_error_string(verified));
}

/* A line of the headers is longer than libcurl wants to keep */
static void
explain_header(HttpTransfer *transfer)
{
	tb_http_fail(transfer, "too_big", "a header of the answer is too long");
}

/*
 * tb_http_explain
 *		Turn libcurl's result into ours.  Called while the transfer still has its
 *		handle, with its duration.
 */
void
tb_http_explain(HttpTransfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			tb_http_fail(transfer, "resolve", "the name cannot be resolved");
			break;
		case CURLE_COULDNT_CONNECT:
			explain_connect(transfer);
			break;
		case CURLE_OPERATION_TIMEDOUT:
			explain_timeout(transfer);
			break;
		case CURLE_PEER_FAILED_VERIFICATION:
			explain_certificate(transfer);
			break;
		case CURLE_SSL_CACERT_BADFILE:
			tb_http_fail(transfer, "tls",
						 "the file of certificate authorities cannot be read");
			break;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_SHUTDOWN_FAILED:
		case CURLE_USE_SSL_FAILED:
			tb_http_fail(transfer, "tls", "the TLS handshake failed: %.200s",
						 transfer->curl_error[0] != '\0' ? transfer->curl_error :
						 curl_easy_strerror(code));
			break;
		case CURLE_GOT_NOTHING:
			tb_http_fail(transfer, "connect",
						 "the connection was closed without an answer");
			break;
		case CURLE_PARTIAL_FILE:
		case CURLE_RECV_ERROR:
			tb_http_fail(transfer, "connect",
						 "the connection broke; %zu bytes of the body had come",
						 transfer->received_length);
			break;
		case CURLE_SEND_ERROR:
			tb_http_fail(transfer, "connect",
						 "the connection broke while the request was sent");
			break;
		case CURLE_FILESIZE_EXCEEDED:
			tb_http_fail(transfer, "too_big",
						 "the body of the answer is larger than %zu bytes",
						 transfer->max_bytes);
			break;
		case CURLE_OUT_OF_MEMORY:

			/*
			 * That is what libcurl says, too, of a line of a header of 100
			 * kB. Newer ones have a word of their own for it.
			 */
			if (transfer->headers_complete || !has_been_sent(transfer))
				tb_http_fail(transfer, "protocol", "%s", curl_easy_strerror(code));
			else
				explain_header(transfer);
			break;
#if LIBCURL_VERSION_NUM >= 0x080600
		case CURLE_TOO_LARGE:
			explain_header(transfer);
			break;
#endif
		case CURLE_UNSUPPORTED_PROTOCOL:
			tb_http_fail(transfer, "protocol", "what it answers is not HTTP");
			break;
		case CURLE_BAD_CONTENT_ENCODING:
			tb_http_fail(transfer, "encoding",
						 "the body of the answer cannot be decompressed");
			break;
		default:
			tb_http_fail(transfer, "protocol", "%s", curl_easy_strerror(code));
			break;
	}
}
