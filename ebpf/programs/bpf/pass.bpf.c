/* The far end of a veth pair, for tests: an end that has no program of its own leaves frames which a program at the other end
 * sends back (XDP_TX) lying until something else comes. A network card has no such end. */
#include "kernel.h"

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
