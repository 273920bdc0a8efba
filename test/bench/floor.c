/*
 * The floor in C: one of three processes that only relay frames. The same protocol and the same
 * steps as floor-worker.ts, whose comment describes them.
 *
 *   floor relay PORT          floor end TAP ADDRESS PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_BYTES (10 + 65536)
#define LENGTH_BYTES 4
#define READ_BYTES (256 << 10)

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void write_all(int fd, const uint8_t *at, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, at, bytes);
		if (n < 0)
			fail("write");
		at += n;
		bytes -= n;
	}
}

/* Bytes of a stream, of which the last frame may be incomplete. */
struct stream {
	uint8_t bytes[READ_BYTES];
	size_t have;
};

/* One read. Returns the bytes in whole frames. */
static size_t fill(struct stream *s, int fd)
{
	ssize_t n = read(fd, s->bytes + s->have, READ_BYTES - s->have);
	size_t at = 0;

	if (n <= 0)
		exit(0);
	s->have += n;
	while (at + LENGTH_BYTES <= s->have) {
		uint32_t length;

		memcpy(&length, s->bytes + at, LENGTH_BYTES);
		if (at + LENGTH_BYTES + length > s->have)
			break;
		at += LENGTH_BYTES + length;
	}
	return at;
}

static void keep_rest(struct stream *s, size_t used)
{
	s->have -= used;
	memmove(s->bytes, s->bytes + used, s->have);
}

static void no_delay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void relay(int port)
{
	static struct stream streams[2];
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int on = 1;
	struct pollfd ends[2];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 2))
		fail("listen");
	puts("{\"ready\":true}");
	fflush(stdout);
	for (int i = 0; i < 2; i++) {
		ends[i] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = POLLIN };
		no_delay(ends[i].fd);
	}
	for (;;) {
		poll(ends, 2, -1);
		for (int i = 0; i < 2; i++) {
			size_t whole;

			if (!ends[i].revents)
				continue;
			whole = fill(&streams[i], ends[i].fd);
			write_all(ends[1 - i].fd, streams[i].bytes, whole);
			keep_rest(&streams[i], whole);
		}
	}
}

static int open_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) ||
	    ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN))
		fail(name);
	return fd;
}

static void end(const char *name, const char *host, int port)
{
	static uint8_t message[LENGTH_BYTES + FRAME_BYTES];
	static struct stream stream;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int tap = open_tap(name);
	int line = socket(AF_INET, SOCK_STREAM, 0);
	struct pollfd ready[2] = { { .fd = tap, .events = POLLIN }, { .fd = line, .events = POLLIN } };

	inet_pton(AF_INET, host, &address.sin_addr);
	if (connect(line, (struct sockaddr *)&address, sizeof address))
		fail(host);
	no_delay(line);
	puts("{\"ready\":true}");
	fflush(stdout);
	for (;;) {
		poll(ready, 2, -1);
		if (ready[0].revents) {
			ssize_t n = read(tap, message + LENGTH_BYTES, FRAME_BYTES);

			if (n > 0) {
				uint32_t length = n;

				memcpy(message, &length, LENGTH_BYTES);
				write_all(line, message, LENGTH_BYTES + n);
			}
		}
		if (ready[1].revents) {
			size_t whole = fill(&stream, line);

			for (size_t at = 0; at < whole;) {
				uint32_t length;

				memcpy(&length, stream.bytes + at, LENGTH_BYTES);
				/* A TAP that is down refuses frames. */
				if (write(tap, stream.bytes + at + LENGTH_BYTES, length) < 0 && errno != EIO)
					fail("TAP");
				at += LENGTH_BYTES + length;
			}
			keep_rest(&stream, whole);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "relay"))
		relay(atoi(argv[2]));
	if (argc == 5 && !strcmp(argv[1], "end"))
		end(argv[2], argv[3], atoi(argv[4]));
	return 2;
}
