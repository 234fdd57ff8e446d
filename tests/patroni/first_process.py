"""python first_process.py COMMAND…: the first process of namespaces just made; ends with the command's exit status.

Of the network it takes 127.0.0.1 up: Patroni's features have ports of their own, etcd's among them, and here they are
free. Of the processes it takes orphans in, or they would never be gone: Patroni waits for its PostgreSQL to be.
"""

import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS = 0x8914  # of linux/sockios.h
IFF_UP = 1


def main(command: list[str]) -> int:
    with socket.socket() as asked:
        fcntl.ioctl(asked, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
