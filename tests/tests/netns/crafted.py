"""What no DHCP client sends, made with scapy: crafted.py INTERFACE SECONDS

Options that lie about their length, names longer than their fields, senders that are somebody else, the server's own
addresses, relays that there are not, one machine that asks without end, and others each of which asks once: ten thousand
packets a second, for that long.
"""

import random
import sys
import time

from scapy.all import BOOTP, DHCP, IP, UDP, Ether, Raw, conf

BROADCAST = "ff:ff:ff:ff:ff:ff"
SERVER = "10.77.0.1"
VICTIM = "52:54:00:77:0a:01"
ITS = "10.77.0.77"
NOISY = "52:54:00:77:0a:66"

random.seed(7)


def mac():
    return "02:00:" + ":".join("%02x" % random.randrange(256) for _ in range(4))


def packet(chaddr, options, source="0.0.0.0", target="255.255.255.255", ports=(68, 67), ethernet=None, **bootp):
    header = BOOTP(chaddr=bytes.fromhex(chaddr.replace(":", "")), xid=random.getrandbits(32), **bootp)
    frame = Ether(src=ethernet or chaddr, dst=BROADCAST) / IP(src=source, dst=target)
    frame = frame / UDP(sport=ports[0], dport=ports[1]) / header
    return bytes(frame / (Raw(b"\x63\x82\x53\x63" + options) if isinstance(options, bytes) else DHCP(options=options)))


def asks(kind, *more):
    return [("message-type", kind), ("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001"), *more, "end"]


def crafted():
    pxe = b"\x3c\x09PXEClient\x5d\x02\x00\x00"
    yield from (packet(mac(), asks("discover", ("hostname", b"x" * 250))) for _ in range(100))
    for length in (0, 1, 3, 200, 255):
        # An option that says that it is longer than there is, and each that is shorter than it must be.
        yield packet(mac(), b"\x35\x01\x01" + pxe + bytes([12, length]) + b"x")
        for code in (50, 51, 53, 54, 55, 57, 60, 61, 77, 82, 93, 94, 97, 118, 175):
            yield packet(mac(), b"\x35\x01\x01" + bytes([code, length]) + b"\xff" * length + b"\xff")
    # The same option over and over, pads without end, nothing but pads, a name in the header without its end.
    yield packet(mac(), b"\x35\x01\x01" + b"\x3d\xff" + b"y" * 255 + b"\x3d\xff" + b"z" * 255 + b"\xff")
    yield packet(mac(), b"\x35\x01\x01" + b"\x00" * 1000 + pxe + b"\xff")
    yield packet(mac(), b"\x00" * 1200)
    yield packet(mac(), b"\x35\x01\x01\x34\x01\x03" + pxe + b"\xff", sname=b"\x0c\xff" * 32, file=b"\x0c\x40" * 64)
    # Hardware addresses that are longer than the field, a group's, nobody's.
    yield packet(mac(), asks("discover"), hlen=255)
    yield packet("01:00:5e:00:00:01", asks("discover"))
    yield packet("00:00:00:00:00:00", asks("discover"))
    # Somebody else: the server, the network, everybody, a loopback; and in the name of a machine that runs.
    for source in (SERVER, "10.77.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1", "10.77.0.200"):
        yield packet(mac(), asks("discover"), source=source)
        yield packet(VICTIM, asks("release", ("server_id", SERVER)), source=source, ciaddr=ITS, ethernet=mac())
        yield packet(VICTIM, asks("decline", ("server_id", SERVER), ("requested_addr", ITS)), ethernet=mac())
        yield packet(mac(), asks("request"), source=source, target=SERVER, ports=(68, 4011), ciaddr=source)
    # Made-up machines that say that they have each address, or were offered it.
    for last in range(100, 255):
        its = ("requested_addr", "10.77.0.%d" % last)
        yield packet(mac(), asks("request", its, *([("server_id", SERVER)] * (last % 2))))
    # Relays: us, nobody, somewhere else.
    for relay in (SERVER, "10.77.0.250", "192.0.2.1", "255.255.255.255", "127.0.0.1"):
        yield packet(mac(), asks("discover"), giaddr=relay, hops=255)
        yield packet(mac(), b"\x35\x01\x01\x52\x06\x05\x04\xc0\x00\x02\x01\xff", giaddr=relay)
    # What only servers send, and what no one does.
    for kind in (0, 2, 5, 6, 9, 255):
        yield packet(mac(), bytes([53, 1, kind, 255]))
    yield packet(mac(), asks("offer", ("server_id", "10.77.0.66")), op=2, yiaddr="10.77.0.9", ports=(67, 68))


def unheard_of():
    """A DISCOVER of a machine that never asked before, and never will again."""
    frame = bytearray(packet(NOISY, asks("discover")))
    frame[40:42] = b"\0\0"  # no checksum of UDP's
    for number in range(1 << 32):
        name = b"\x02\x01" + number.to_bytes(4, "big")
        frame[6:12] = frame[70:76] = name
        frame[46:50] = name[2:]
        yield bytes(frame)


def main():
    interface, seconds = sys.argv[1], float(sys.argv[2])
    frames = list(crafted())
    noise = packet(NOISY, asks("discover"))
    strangers = unheard_of()
    socket = conf.L2socket(iface=interface)
    print("crafted", len(frames), flush=True)
    until = time.monotonic() + seconds
    sent = 0
    while time.monotonic() < until:
        for frame in frames:
            socket.outs.send(frame)
            for _ in range(10):
                socket.outs.send(noise)
                socket.outs.send(next(strangers))
            sent += 21
            # Faster, and it is the bridge between the namespaces that loses what others say, whatever the server does.
            time.sleep(0.002)
    print("sent", sent, flush=True)


main()
