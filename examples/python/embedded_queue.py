"""A queue inside the program, on a folder: nothing else runs. What one run leaves, the next one finds.

    python embedded_queue.py ./jobs add "resize cat.png"
    python embedded_queue.py ./jobs work
"""

import sys

import libmq

_, folder, command, *jobs = sys.argv

with libmq.connect(f"mq:{folder}") as client:
    client.create_channel("jobs", "worker")
    if command == "add":
        client.publish("jobs", jobs)
        print(f"added {len(jobs)}")
    else:
        worker = client.subscribe("jobs", "worker")
        while (message := worker.next(timeout=0.1)) is not None:
            with message:
                print(f"done {message.text}, attempt {message.attempts}")
