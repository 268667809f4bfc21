#!/usr/bin/python3
"""A scripted BGP peer: bgp_peer.py ADDRESS AS ROUTER-ID, or bgp_peer.py --listen AS ROUTER-ID

Connects to ADDRESS, port 179, and exits with the connection; or listens there ("listening") and serves one connection at
a time ("connected" for each). Offers L2VPN EVPN and 4-octet AS numbers, hold time 90. Prints "established" after the
first KEEPALIVE of a connection, "message TYPE HEX" for each message but KEEPALIVEs, and "closed" at its end. Each line of
standard input is a whole message in hexadecimal, sent as it is to the newest connection, or the word "close", which ends it.
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
select = selectors.DefaultSelector()


class Connection:
    def __init__(self, peer):
        self.peer, self.received, self.established = peer, b"", False
        peer.sendall(message(1, open_body + bytes([len(parameters)]) + parameters))
        select.register(peer, selectors.EVENT_READ, self)

    def end(self):
        select.unregister(self.peer)
        self.peer.close()
        print("closed", flush=True)
        if address != "--listen":
            sys.exit(0)

    def read(self):
        try:
            chunk = self.peer.recv(65536)
            if not chunk:
                return self.end()
            self.received += chunk
            self.answer()
        except ConnectionError:
            self.end()

    def answer(self):
        while len(self.received) >= 19 and len(self.received) >= struct.unpack("!H", self.received[16:18])[0]:
            length = struct.unpack("!H", self.received[16:18])[0]
            whole, self.received = self.received[:length], self.received[length:]
            if whole[18] == 4:
                if not self.established:
                    print("established", flush=True)
                self.established = True
                self.peer.sendall(message(4))
            else:
                print("message", whole[18], whole.hex(), flush=True)
                if whole[18] == 1:
                    self.peer.sendall(message(4))


newest, listener = None, None
if address == "--listen":
    listener = socket.create_server(("", 179))
    select.register(listener, selectors.EVENT_READ)
    print("listening", flush=True)
else:
    newest = Connection(socket.create_connection((address, 179), 10))
select.register(sys.stdin.fileno(), selectors.EVENT_READ)
lines = b""
while True:
    for key, _ in select.select():
        if key.data:
            key.data.read()
        elif key.fileobj is listener:
            accepted = listener.accept()[0]
            print("connected", flush=True)
            try:
                newest = Connection(accepted)
            except ConnectionError:
                print("closed", flush=True)
        else:
            chunk = os.read(sys.stdin.fileno(), 65536)
            if not chunk:
                sys.exit(0)
            lines += chunk
    while b"\n" in lines:
        line, lines = lines.split(b"\n", 1)
        if line == b"close":
            newest.end()
        else:
            newest.peer.sendall(bytes.fromhex(line.decode()))
