/*
 * http_guard.c
 *	  Sockets of libcurl's: opened to addresses that may be connected to only.
 */
#include "http_transfer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "storage/fd.h"

/* Remember which address was refused, for the sentence about it */
static void
note_refused(HttpTransfer *transfer, const struct sockaddr *address,
			 const char *because)
{
	const void *bytes = NULL;

	transfer->refused_because = because;
	transfer->refused_address[0] = '\0';
	if (address->sa_family == AF_INET)
		bytes = &((const struct sockaddr_in *) address)->sin_addr;
	else if (address->sa_family == AF_INET6)
		bytes = &((const struct sockaddr_in6 *) address)->sin6_addr;
	if (bytes != NULL)
		inet_ntop(address->sa_family, bytes, transfer->refused_address,
				  sizeof(transfer->refused_address));
}

/*
 * tb_http_open_socket
 *		libcurl wants to connect to this address.
 *
 * If it is told no it tries the next one that the name resolves to.  The server
 * is told of the descriptor, because it counts how many it has left for files.
 */
curl_socket_t
tb_http_open_socket(void *transfer, curlsocktype purpose,
					struct curl_sockaddr *address)
{
	HttpTransfer *to = transfer;
	const char *because = NULL;
	curl_socket_t opened;

	if (purpose != CURLSOCKTYPE_IPCXN)
		return CURL_SOCKET_BAD;
	if (!tb_terms->allow_private)
		because = tb_terms->refused_address(&address->addr);
	if (because != NULL)
	{
		note_refused(to, &address->addr, because);
		return CURL_SOCKET_BAD;
	}
	to->addresses_tried++;
	if (!AcquireExternalFD())
		return CURL_SOCKET_BAD;
	opened = socket(address->family, address->socktype | SOCK_CLOEXEC,
					address->protocol);
	if (opened == CURL_SOCKET_BAD)
		ReleaseExternalFD();
	return opened;
}

/*
 * tb_http_close_socket
 *		The other end of tb_http_open_socket().
 */
int
tb_http_close_socket(void *unused, curl_socket_t socket)
{
	ReleaseExternalFD();
	return close(socket);
}
