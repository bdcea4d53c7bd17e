/*
 * sign.c
 *	  Signs a request given on the command line, for test/t/244_signature.pl:
 *
 *	  sign AUTH SECRET METHOD URL BODY NOW NONCE [HEADER ...]
 *
 * prints the headers of the signature, a line each, or "refused: " and why.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "signature.h"

int
main(int argc, char **argv)
{
	SignatureInput input = {0};
	Signature	signature;
	const char *why;

	if (argc < 8)
	{
		fprintf(stderr, "too few arguments\n");
		return 2;
	}
	input.secret = argv[2];
	input.secret_length = strlen(argv[2]);
	input.method = argv[3];
	input.url = argv[4];
	input.body = argv[5];
	input.body_length = strlen(argv[5]);
	input.now = atoll(argv[6]);
	input.nonce = argv[7];
	input.headers = (const char *const *) argv + 8;
	input.header_count = argc - 8;

	why = tb_signature_make(argv[1], &input, &signature);
	if (why != NULL)
		printf("refused: %s\n", why);
	for (int i = 0; i < signature.header_count; i++)
		printf("%s\n", signature.headers[i]);
	tb_signature_free(&signature);
	return 0;
}
