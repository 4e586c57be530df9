"""What all the examples share: their arguments, a channel to the broker, and pauses between attempts."""

import argparse
import os

import grpc

OPTIONS = [
    # A broker that is gone without a word is noticed after these.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The broker says how large a message may be.
    ("grpc.max_receive_message_length", -1),
]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


def arguments(description):
    """A parser of the arguments that every example takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", default="127.0.0.1:4155", help="host:port of the broker's gRPC")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--ca", help="PEM file of who signed the broker's certificate; none: no TLS")
    return parser


def channel(args, module=grpc):
    """A channel of `grpc`, or of `grpc.aio`."""
    if not args.ca:
        return module.insecure_channel(args.address, options=OPTIONS)
    with open(args.ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return module.secure_channel(args.address, credentials, options=OPTIONS)


def metadata():
    """Shows the token in MQ_TOKEN, if there is one. Without TLS it can be read on its way."""
    token = os.environ.get("MQ_TOKEN")
    return [("authorization", f"Bearer {token}")] if token else []
