/*
 * http_address.c
 *	  Addresses that are not connected to.
 *
 * Who may add a provider chooses the host that the database server asks.  From
 * there one can reach what nobody outside can: services on the same machine, the
 * private network, the metadata service of a cloud, which hands out credentials.
 * So unless tokenbill.allow_private_addresses is on, a connection is made to
 * addresses of the public internet only.
 *
 * It is the address that is checked, at the moment at which a socket is opened
 * to it (http_guard.c), and not the name: a name may resolve to anything, to something else a
 * moment later, and may be a number in an odd spelling (0x7f.1, 2130706433).
 *
 * The ranges are those of the IANA registries of special-purpose addresses
 * (RFC 6890 and what has been registered since), and of the multicast, reserved
 * and deprecated blocks beside them.
 */
#include "http_engine.h"

#include <netinet/in.h>
#include <sys/socket.h>

typedef struct Range4
{
	uint32		first;
	int			bits;
	const char *what;
} Range4;

static const Range4 ranges4[] = {
	{0x00000000, 8, "an address of this network"},	/* RFC 1122 */
	{0x0A000000, 8, "private"}, /* RFC 1918 */
	{0x64400000, 10, "shared by a carrier's customers"},	/* RFC 6598 */
	{0x7F000000, 8, "loopback"},	/* RFC 1122 */
	{0xA83F8110, 32, "the host services of a cloud"},	/* 168.63.129.16, Azure */
	{0xA9FE0000, 16, "link-local"}, /* RFC 3927; 169.254.169.254 */
	{0xAC100000, 12, "private"},
	{0xC0000000, 24, "reserved for protocols"}, /* RFC 6890 */
	{0xC0000200, 24, "for documentation"},	/* RFC 5737 */
	{0xC0586300, 24, "a 6to4 relay"},	/* RFC 7526 */
	{0xC0A80000, 16, "private"},
	{0xC6120000, 15, "for benchmarks"}, /* RFC 2544 */
	{0xC6336400, 24, "for documentation"},
	{0xCB007100, 24, "for documentation"},
	{0xE0000000, 4, "multicast"},	/* RFC 1112 */
	{0xF0000000, 4, "reserved or broadcast"},	/* RFC 1112, RFC 919 */
};

typedef struct Range6
{
	uint8		first[16];
	int			bits;
	const char *what;
	int			embedded;		/* where an IPv4 address stands in it that is
								 * to be judged instead; -1: nowhere */
} Range6;

/* The first that fits counts */
static const Range6 ranges6[] = {
	/* RFC 4291: ::ffff:a.b.c.d; RFC 2765: ::ffff:0:a.b.c.d */
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, NULL, 12},
	{{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0}, 96, NULL, 12},
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 128, "unspecified", -1},
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, "loopback", -1},
	/* RFC 6052: 64:ff9b::a.b.c.d, the far side of a NAT64 */
	{{0x00, 0x64, 0xff, 0x9b}, 96, NULL, 12},
	{{0xfc}, 7, "private", -1}, /* RFC 4193; fd00:ec2::254 */
	{{0xfe, 0x80}, 10, "link-local", -1},
	{{0xfe, 0xc0}, 10, "site-local", -1},
	{{0xff}, 8, "multicast", -1},
	/* RFC 2928, with Teredo (RFC 4380), benchmarks and ORCHID in it */
	{{0x20, 0x01, 0x00}, 23, "reserved for protocols", -1},
	{{0x20, 0x01, 0x0d, 0xb8}, 32, "for documentation", -1},	/* RFC 3849 */
	{{0x3f, 0xff, 0x00}, 20, "for documentation", -1},	/* RFC 9637 */
	/* RFC 3056: 2002:a.b.c.d:: */
	{{0x20, 0x02}, 16, NULL, 2},
};

/* Whether two addresses begin with the same bits */
static bool
same_bits(const uint8 *one, const uint8 *other, int bits)
{
	int			bytes = bits / 8;
	int			mask = 0xff00 >> (bits % 8);

	if (memcmp(one, other, bytes) != 0)
		return false;
	return bits % 8 == 0 || ((one[bytes] ^ other[bytes]) & mask & 0xff) == 0;
}

/* Why an IPv4 address, in host order, is refused; NULL if it is not */
static const char *
refused4(uint32 address)
{
	for (int i = 0; i < (int) lengthof(ranges4); i++)
	{
		const Range4 *range = &ranges4[i];

		if ((address ^ range->first) >> (32 - range->bits) == 0)
			return range->what;
	}
	return NULL;
}

static uint32
embedded4(const uint8 *at)
{
	return (uint32) at[0] << 24 | (uint32) at[1] << 16 | (uint32) at[2] << 8 | at[3];
}

/* Why an IPv6 address is refused; NULL if it is not */
static const char *
refused6(const uint8 *address)
{
	for (int i = 0; i < (int) lengthof(ranges6); i++)
	{
		const Range6 *range = &ranges6[i];

		if (!same_bits(address, range->first, range->bits))
			continue;
		if (range->embedded >= 0)
			return refused4(embedded4(address + range->embedded));
		return range->what;
	}
	/* RFC 4291: what has been given out so far is in 2000::/3 */
	if ((address[0] & 0xe0) != 0x20)
		return "not of the public internet";
	/* RFC 5214: ISATAP, with the IPv4 address in the interface's identifier */
	if ((address[8] & 0xfd) == 0 && address[9] == 0 &&
		address[10] == 0x5e && address[11] == 0xfe)
		return refused4(embedded4(address + 12));
	return NULL;
}

/*
 * tb_refused_address
 *		What kind of address this is, if it is one that is not connected to; NULL
 *		if it is of the public internet.
 */
const char *
tb_refused_address(const struct sockaddr *address)
{
	switch (address->sa_family)
	{
		case AF_INET:
			{
				struct sockaddr_in in;

				memcpy(&in, address, sizeof(in));
				return refused4(ntohl(in.sin_addr.s_addr));
			}
		case AF_INET6:
			{
				struct sockaddr_in6 in6;

				memcpy(&in6, address, sizeof(in6));
				return refused6(in6.sin6_addr.s6_addr);
			}
		default:
			return "not an internet address";
	}
}
