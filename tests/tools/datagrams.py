#!/usr/bin/python3
"""UDP datagrams that the kernel segments (UDP_SEGMENT, udp(7)), each with its number and a pattern.

datagrams.py send ADDRESS PORT COUNT SIZE      40 datagrams a call
datagrams.py receive ADDRESS PORT COUNT SIZE   prints "ready", then how many different ones arrived unchanged, 3 s after the last

Rust has no safe interface for the option, and the tests contain no unsafe code.
"""
import random
import socket
import struct
import sys
import time

SOL_UDP, UDP_SEGMENT, SO_RCVBUFFORCE = 17, 103, 33
CALL = 40


def datagram(number, size):
    return struct.pack("!I", number) + random.Random(number).randbytes(size - 4)


def main(mode, address, port, count, size):
    count, size = int(count), int(size)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    end = socket.socket(family, socket.SOCK_DGRAM)
    if mode == "send":
        end.setsockopt(SOL_UDP, UDP_SEGMENT, size)
        end.connect((address, int(port)))
        for first in range(0, count, CALL):
            end.send(b"".join(datagram(n, size) for n in range(first, min(first + CALL, count))))
            time.sleep(0.005)
        return
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    end.bind((address, int(port)))
    print("ready", flush=True)
    right = set()
    end.settimeout(20)
    try:
        while len(right) < count:
            got = end.recv(65536)
            end.settimeout(3)
            number = struct.unpack("!I", got[:4])[0]
            if got == datagram(number, size):
                right.add(number)
    except TimeoutError:
        pass
    print("received", len(right), flush=True)


main(*sys.argv[1:])
