#!/usr/bin/python3
"""programs.py IF   the numbers of the tcx programs of an interface, one per line, after the hook

bpftool lists tcx programs since version 7.3 only.
"""
import ctypes
import platform
import socket
import struct
import sys

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
BPF_PROG_QUERY, HOOKS, LIMIT = 16, {"tcx/ingress": 46, "tcx/egress": 47}, 64  # include/uapi/linux/bpf.h

libc = ctypes.CDLL(None, use_errno=True)
for hook, number in HOOKS.items():
    programs = (ctypes.c_uint32 * LIMIT)()
    # union bpf_attr, member query: interface, hook, flags, flags, programs, their number.
    query = (socket.if_nametoindex(sys.argv[1]), number, 0, 0, ctypes.addressof(programs), LIMIT)
    attributes = ctypes.create_string_buffer(struct.pack("IIIIQI36x", *query))
    if libc.syscall(BPF, BPF_PROG_QUERY, attributes, len(attributes.raw) - 1) == 0:
        count = struct.unpack_from("I", attributes.raw, 24)[0]
        for program in programs[:count]:
            print(hook, program)
