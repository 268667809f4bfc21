// Stands for QEMU and a guest: copies frames with their virtio-net headers between two taps.
//
//   guest GUEST_NETNS GUEST_IF HOST_NETNS HOST_IF QUEUES
//
//     the guest's stack -- GUEST_IF == this program == HOST_IF -- the host: vtepd, or a bridge
//
// GUEST_IF is the virtio NIC as the guest's kernel sees it, HOST_IF the tap of the host. Both are created if they do not
// exist, and are set up as QEMU does by default: headers of 12 bytes, and all offloads that virtio negotiates (checksum,
// TSO with ECN, USO). Each queue has two threads, one for each direction. Prints "ready" when frames are copied; ends
// with its parent, or when an interface is removed.
//
// Written in C because taps need ioctls for which Rust has no safe interface, and compiled by those who use it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef TUN_F_USO4 // linux/if_tun.h since 6.2
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define LONGEST (12 + 14 + 4 + 65535)

struct direction {
    int from, to;
};

static void stop(const char *what)
{
    fprintf(stderr, "guest: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_queue(const char *netns, const char *name, int queues)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", netns);
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) < 0)
        stop(path);
    close(namespace);
    int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tap < 0)
        stop("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (queues > 1)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int header = sizeof(struct virtio_net_hdr_mrg_rxbuf);
    unsigned long basic = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    if (ioctl(tap, TUNSETIFF, &request) < 0 || ioctl(tap, TUNSETVNETHDRSZ, &header) < 0)
        stop(name);
    // A kernel without USO rejects the flags, and QEMU then does without.
    if (ioctl(tap, TUNSETOFFLOAD, basic | TUN_F_USO4 | TUN_F_USO6) < 0 && ioctl(tap, TUNSETOFFLOAD, basic) < 0)
        stop(name);
    return tap;
}

static void *copy(void *argument)
{
    const struct direction *direction = argument;
    char frame[LONGEST];
    for (;;) {
        ssize_t length = read(direction->from, frame, sizeof frame);
        if (length < 0 && errno == EBADFD)
            exit(0);
        // A frame that the other side does not take, because it is down or has no buffer, is lost as on a wire.
        if (length > 0 && write(direction->to, frame, length) < 0 && errno == EBADFD)
            exit(0);
        if (length < 0)
            usleep(1000);
    }
}

int main(int count, char **arguments)
{
    int queues = count == 6 ? atoi(arguments[5]) : 0;
    if (queues < 1 || queues > 64) {
        fprintf(stderr, "usage: guest GUEST_NETNS GUEST_IF HOST_NETNS HOST_IF QUEUES (1 to 64)\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    static struct direction directions[128];
    for (int queue = 0; queue < queues; queue++) {
        int guest = open_queue(arguments[1], arguments[2], queues);
        int host = open_queue(arguments[3], arguments[4], queues);
        directions[2 * queue] = (struct direction){guest, host};
        directions[2 * queue + 1] = (struct direction){host, guest};
    }
    for (int each = 0; each < 2 * queues; each++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, copy, &directions[each]) != 0)
            stop("pthread_create");
    }
    puts("ready");
    fflush(stdout);
    pause();
}
