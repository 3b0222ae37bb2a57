/* What the kernel offers, by hand: helper functions and the macros of BTF-defined maps. Types come from the uapi headers
 * of linux-libc-dev; no vmlinux.h, and no libbpf. */
#pragma once

#include <stddef.h>
#include <linux/types.h>
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define htons(x) ((__u16)__builtin_bswap16((__u16)(x)))
#define htonl(x) ((__u32)__builtin_bswap32((__u32)(x)))
#else
#define htons(x) ((__u16)(x))
#define htonl(x) ((__u32)(x))
#endif
#define ntohs(x) htons(x)
#define ntohl(x) htonl(x)

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
                                         __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*const bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)BPF_FUNC_get_smp_processor_id;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_tail;
static struct bpf_sock *(*const bpf_skc_lookup_tcp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 bytes, __u64 netns,
                                                    __u64 flags) = (void *)BPF_FUNC_skc_lookup_tcp;
static long (*const bpf_sk_release)(void *sk) = (void *)BPF_FUNC_sk_release;
static __s64 (*const bpf_tcp_gen_syncookie)(void *sk, void *ip, __u32 ip_bytes, void *tcp,
                                            __u32 tcp_bytes) = (void *)BPF_FUNC_tcp_gen_syncookie;
static long (*const bpf_tcp_check_syncookie)(void *sk, void *ip, __u32 ip_bytes, void *tcp,
                                             __u32 tcp_bytes) = (void *)BPF_FUNC_tcp_check_syncookie;
static void *(*const bpf_ringbuf_reserve)(void *ring, __u64 bytes, __u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
static long (*const bpf_sk_select_reuseport)(struct sk_reuseport_md *md, void *map, void *key,
                                             __u64 flags) = (void *)BPF_FUNC_sk_select_reuseport;
