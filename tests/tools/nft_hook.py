#!/usr/bin/python3
"""A chain of nftables' family netdev, without nft: nft_hook.py add|del INTERFACE

Adds the table "vt", with a base chain at the ingress hook of the interface, or deletes it (nfnetlink,
include/uapi/linux/netfilter/nf_tables.h).
"""

import socket
import struct
import sys

NEWTABLE, DELTABLE, NEWCHAIN = (10 << 8) | 0, (10 << 8) | 2, (10 << 8) | 3
BATCH_BEGIN, BATCH_END = 16, 17
REQUEST, ACK, CREATE = 1, 4, 0x400
NETDEV = 5


def attribute(kind, value):
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind, flags, family, resource, body=b""):
    body = struct.pack("!BBH", family, 0, resource) + body
    return struct.pack("IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body


def text(kind, value):
    return attribute(kind, value.encode() + b"\0")


verb, interface = sys.argv[1:]
if verb == "add":
    hook = attribute(1, struct.pack("!I", 0)) + attribute(2, struct.pack("!i", 0)) + text(3, interface)
    chain = text(1, "vt") + text(3, "vt") + attribute(4 | 0x8000, hook) + text(7, "filter")
    changes = message(NEWTABLE, CREATE | ACK, NETDEV, 0, text(1, "vt")) + message(NEWCHAIN, CREATE | ACK, NETDEV, 0, chain)
    answers = 2
else:
    changes, answers = message(DELTABLE, ACK, NETDEV, 0, text(1, "vt")), 1
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
netlink.bind((0, 0))
netlink.settimeout(5)
netlink.send(message(BATCH_BEGIN, 0, 0, 10) + changes + message(BATCH_END, 0, 0, 10))
while answers > 0:
    reply = netlink.recv(65536)
    while reply:
        length, kind = struct.unpack("IH", reply[:6])
        error = struct.unpack("i", reply[16:20])[0]
        if kind != 2 or error:
            sys.exit(f"message {kind}, error {-error}")
        answers -= 1
        reply = reply[length:]
