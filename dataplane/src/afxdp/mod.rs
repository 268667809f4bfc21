//! AF_XDP sockets on the kernel UAPI (`include/uapi/linux/if_xdp.h`). The only room with `unsafe` but for `table::mac`.
