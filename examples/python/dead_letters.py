"""A worker that halves numbers. What is no number can't be done however often it is tried: after three attempts it is a
dead letter, in a topic of its own.

    python dead_letters.py ./data 10 twenty 30
"""

import sys

import libmq

_, folder, *numbers = sys.argv

with libmq.connect(f"mq:{folder}") as client:
    client.create_channel("numbers", "halver")
    settings = client.channel_settings("numbers", "halver")
    settings.max_attempts = 3
    settings.dead_letter_topic = "numbers.dead"
    client.set_channel_settings("numbers", "halver", settings)

    client.publish("numbers", numbers)
    halver = client.subscribe("numbers", "halver")
    dead = client.subscribe("numbers.dead", "printer")
    left = len(numbers)
    while left > 0:
        if (message := halver.next(timeout=0.1)) is not None:
            try:
                # Finished at the end of the block; on an exception returned, to come again but for the last attempt.
                with message:
                    print(f"half of {message.text} is {float(message.text) / 2:g}")
                left -= 1
            except ValueError as error:
                print(f"attempt {message.attempts}: {error}")
        if (letter := dead.next(timeout=0)) is not None:
            with letter:
                print(f"dead letter: {letter.text}")
            left -= 1
