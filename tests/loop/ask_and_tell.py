#!/usr/bin/env python3
"""Asks a server for scikit-learn's digits, one image at a time, and tells it afterwards what each showed.

    python ask_and_tell.py --url http://127.0.0.1:8000 [--rows N | --seconds S]
"""

import argparse
import itertools
import json
import time
import urllib.request

from sklearn.datasets import load_digits

# Images after which the truth about them is sent.
TOLD_AT_ONCE = 50


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", default="http://127.0.0.1:8000")
    arguments.add_argument("--rows", type=int, help="images to ask for, instead of a time")
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments = arguments.parse_args()
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype("float32")
    until = time.monotonic() + arguments.seconds
    truths, asked = [], 0
    for row in itertools.cycle(range(len(images))):
        if asked == arguments.rows or (arguments.rows is None and time.monotonic() > until):
            break
        prediction = ask(arguments.url, images[row])
        truths.append({"prediction_id": prediction, "name": "digit", "value": int(labels[row])})
        asked += 1
        if len(truths) == TOLD_AT_ONCE:
            tell(arguments.url, truths)
            truths = []
    if truths:
        tell(arguments.url, truths)
    print(f"asked for {asked} images and told what they show")


def ask(url, image):
    """The prediction id of an image of 64 pixels."""
    tensor = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": image.tolist()}
    _, headers = post(f"{url}/v2/models/digits/infer", {"inputs": [tensor]})
    return headers["headgate-prediction-id"]


def tell(url, truths):
    answer, _ = post(f"{url}/v2/feedback", truths)
    assert answer["accepted"] == len(truths), answer


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer), answer.headers


if __name__ == "__main__":
    main()
