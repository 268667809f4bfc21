#!/usr/bin/python3
"""Raw Ethernet frames between an interface and a pair of pipes, one frame per line, in hexadecimal.

frames.py packet IF   an AF_PACKET socket on IF: lines on stdin are sent, received frames are printed
frames.py direct IF   the same; what is sent passes tc by
frames.py vnet IF     an AF_PACKET socket that only sends: lines have a vnet header of 10 bytes before the frame, which may be
                      a superframe; what the kernel refuses is left out
frames.py tap IF      opens the tap IF like a virtual machine: lines on stdin are sent to the host, frames for the guest are printed
frames.py queue IF    the same for one queue of a multi-queue tap
frames.py vnet-queue IF  the same; each frame that is sent has a vnet header of 10 bytes before it; what the kernel
                      refuses is left out
frames.py napi IF     the same, received with GRO as from a NIC: lines are sent together at an empty line. /sys must be
                      that of the network namespace (ip netns exec)

It prints "ready" first, and exits at the end of stdin. The tests use it because raw sockets and taps need ioctls and
socket addresses for which Rust has no safe interface, and the tests contain no unsafe code.
"""
import errno
import fcntl
import os
import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR, PACKET_QDISC_BYPASS, PACKET_OUTGOING = 263, 8, 15, 20, 4
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE = 0x400454CA, 0x0002, 0x1000, 0x0100
IFF_NAPI, IFF_VNET_HDR = 0x0010, 0x4000


class Packet:
    def __init__(self, name):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        # More than net.core.rmem_max, which is too small for a burst.
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.bind((name, ETH_P_ALL))

    def fileno(self):
        return self.socket.fileno()

    def send(self, frame):
        while True:
            try:
                self.socket.send(frame)
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the CPU's backlog of received frames is full: nothing was sent
                    raise
            time.sleep(0.001)

    def receive(self):
        try:
            frame, extra, _, (_, _, kind, _, _) = self.socket.recvmsg(65536, 256)
        except OSError as error:
            if error.errno == errno.ENETDOWN:  # reported once when the link goes down; frames arrive again when it is up
                return None
            raise
        if kind == PACKET_OUTGOING:
            return None
        for level, what, data in extra:
            if level == SOL_PACKET and what == PACKET_AUXDATA:
                status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                if status & TP_STATUS_VLAN_VALID:  # the kernel removed the tag from the frame: restore it
                    tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
        return frame


class Direct(Packet):
    def __init__(self, name):
        super().__init__(name)
        self.socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)


class Vnet:
    def __init__(self, name):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.bind((name, 0))  # without a protocol, nothing is received

    def fileno(self):
        return self.socket.fileno()

    def send(self, frame):
        try:
            self.socket.send(frame)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise


class Tap:
    flags = IFF_TAP | IFF_NO_PI

    def __init__(self, name):
        self.fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), self.flags))

    def fileno(self):
        return self.fd

    def send(self, frame):
        os.write(self.fd, frame)

    def receive(self):
        return os.read(self.fd, 1 << 17)


class Queue(Tap):
    flags = Tap.flags | IFF_MULTI_QUEUE


class VnetQueue(Queue):
    flags = Queue.flags | IFF_VNET_HDR

    def send(self, frame):
        try:
            super().send(frame)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def receive(self):
        return super().receive()[10:]


class Napi(Tap):
    flags = Tap.flags | IFF_NAPI

    def __init__(self, name):
        super().__init__(name)
        self.burst = []
        # Each write is a burst of its own for the kernel: what may be joined is kept for a while.
        with open(f"/sys/class/net/{name}/gro_flush_timeout", "w") as file:
            file.write("5000000")

    def send(self, frame):
        if frame:
            self.burst.append(frame)
        else:
            for one in self.burst:
                os.write(self.fd, one)
            self.burst.clear()


def main():
    kind, name = sys.argv[1:]
    kinds = {"packet": Packet, "direct": Direct, "vnet": Vnet, "tap": Tap, "queue": Queue, "vnet-queue": VnetQueue, "napi": Napi}
    link = kinds[kind](name)
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    pending = b""
    while True:
        readable, _, _ = select.select([0, link], [], [])
        if link in readable:
            frame = link.receive()
            if frame is not None:
                out.write(frame.hex().encode() + b"\n")
                out.flush()
        if 0 in readable:
            more = os.read(0, 1 << 20)
            if not more:
                return
            *lines, pending = (pending + more).split(b"\n")
            for line in lines:
                link.send(bytes.fromhex(line.decode()))


if __name__ == "__main__":
    main()
