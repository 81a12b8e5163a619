"""Starts the emulator of AWS, answering at once: its socket for functions would otherwise hold
small answers back for 40 ms a hop, which is not what AWS does."""

import socketserver

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

from ministack.app import main  # noqa: E402

main()
