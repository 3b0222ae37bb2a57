/* The program of a group of listening sockets: a connection goes to the socket of the CPU that its packet is on, also when
 * it is taken over from a socket that closes. */
#include "abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, SEATS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} socks SEC(".maps");

/* CPU -> seat plus one; 0 for a CPU without a shard. The last entry is the number of seats. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SEATS_MAX + 1);
	__type(key, __u32);
	__type(value, __u32);
} seats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct accept_tally);
} accepted SEC(".maps");

SEC("sk_reuseport/migrate")
int accept(struct sk_reuseport_md *md)
{
	__u32 zero = 0, last = SEATS_MAX, cpu = bpf_get_smp_processor_id();
	struct accept_tally *tally = bpf_map_lookup_elem(&accepted, &zero);
	__u32 *seat = cpu < SEATS_MAX ? bpf_map_lookup_elem(&seats, &cpu) : NULL;
	__u32 *many = bpf_map_lookup_elem(&seats, &last);
	__u32 index = seat ? *seat - 1 : ~0u;
	if (!tally || !many)
		return SK_PASS;
	if (md->migrating_sk)
		tally->migrated++;
	if (index < SEATS_MAX && bpf_sk_select_reuseport(md, &socks, &index, 0) == 0) {
		tally->here++;
		return SK_PASS;
	}
	index = *many ? md->hash % *many : 0;
	if (bpf_sk_select_reuseport(md, &socks, &index, 0) == 0)
		tally->elsewhere++;
	else
		tally->none++;
	return SK_PASS;
}

char _license[] SEC("license") = "GPL";
