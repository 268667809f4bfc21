#!/usr/bin/python3
"""A scripted BGP peer: bgp_peer.py ADDRESS AS ROUTER-ID

Connects to ADDRESS, port 179, and offers L2VPN EVPN and 4-octet AS numbers, hold time 90. Prints "established" after the
first KEEPALIVE, then "message TYPE HEX" for each message but KEEPALIVEs. Each line of standard input is a whole message in
hexadecimal, sent as it is.
"""

import os
import selectors
import socket
import struct
import sys

address, asn, router_id = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def message(kind, body=b""):
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


capabilities = bytes([1, 4, 0, 25, 0, 70, 65, 4]) + struct.pack("!I", asn)
parameters = bytes([2, len(capabilities)]) + capabilities
open_body = struct.pack("!BHH", 4, asn if asn < 65536 else 23456, 90) + socket.inet_aton(router_id)

peer = socket.create_connection((address, 179), 10)
peer.sendall(message(1, open_body + bytes([len(parameters)]) + parameters))
select = selectors.DefaultSelector()
select.register(peer, selectors.EVENT_READ)
select.register(sys.stdin.fileno(), selectors.EVENT_READ)
received, lines, established = b"", b"", False
while True:
    for key, _ in select.select():
        if key.fileobj is peer:
            chunk = peer.recv(65536)
            if not chunk:
                print("closed", flush=True)
                sys.exit(0)
            received += chunk
        else:
            chunk = os.read(sys.stdin.fileno(), 65536)
            if not chunk:
                sys.exit(0)
            lines += chunk
    while len(received) >= 19 and len(received) >= struct.unpack("!H", received[16:18])[0]:
        length = struct.unpack("!H", received[16:18])[0]
        whole, received = received[:length], received[length:]
        if whole[18] == 4:
            if not established:
                print("established", flush=True)
            established = True
            peer.sendall(message(4))
        else:
            if whole[18] == 1:
                peer.sendall(message(4))
            print("message", whole[18], whole.hex(), flush=True)
    while b"\n" in lines:
        line, lines = lines.split(b"\n", 1)
        peer.sendall(bytes.fromhex(line.decode()))
