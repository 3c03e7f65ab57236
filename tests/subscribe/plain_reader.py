"""A reader written from docs/protocol.md alone, as a stranger would write it: pyzmq, struct and json, no inspectd.

    python plain_reader.py tcp://127.0.0.1:5556 tcp://127.0.0.1:5557 [now | oldest | EPOCH:NUMBER]

Prints a line of JSON per result, per stretch that is missed, per new epoch, and when the daemon falls silent.
The numbers in comments are the steps of "A reader that misses nothing".
"""

import contextlib
import json
import struct
import sys
import time

import zmq

HEADER = struct.Struct("<2sBBHHQQQQQ")
VERDICTS = {0xA55A: "PASS", 0x5AA5: "FAIL", 0x3CC3: "UNKNOWN", 0: ""}
REPLAYED, SIMULATED, RANGE = 1, 4, 16


class Message:
    """Three frames, checked."""

    def __init__(self, frames):
        topic, header, body = frames
        magic, version, codec, self.flags, code, self.epoch, self.seq, self.part_id, _, _ = HEADER.unpack(header)
        if (magic, version, codec) != (b"IN", 1, 0):
            raise ValueError(f"foreign: {header!r}")
        self.is_result = topic.startswith(b"res/")
        self.verdict = VERDICTS[code]
        self.body = json.loads(body)
        self.last_part_id = self.body["last_part_id"] if self.flags & RANGE else self.part_id


class Reader:
    """Calls `tell` with a dict for each item."""

    def __init__(self, results, query, start, tell):
        self.tell, self.start = tell, start
        self.context = zmq.Context()
        self.live = self.context.socket(zmq.SUB)
        self.live.setsockopt(zmq.RCVHWM, 10_000)
        self.query = self.context.socket(zmq.DEALER)
        self.query.setsockopt(zmq.HEARTBEAT_IVL, 500)
        self.query.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
        for socket in (self.live, self.query):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self.live.setsockopt(zmq.SUBSCRIBE, b"res/")  # 1
        self.live.setsockopt(zmq.SUBSCRIBE, b"hb/")
        self.live.connect(results)
        self.query.connect(query)
        self.position = tuple(map(int, start.split(":"))) if ":" in start else None  # 2
        self.newest = (self.position[0], self.position[1] - 1) if self.position else (0, 0)  # 3
        self.left = set()
        self.id = 0
        self.asked = None  # verb of the open question
        self.give_up_s = 0.0
        self.vain_since_s = None
        self.heard_s = time.monotonic()

    def close(self):
        self.context.destroy(linger=0)

    def turn(self):
        """One message, or up to 50 ms without."""
        socket = self.query if self.asked else self.live
        if socket.poll(50):
            self.heard_s = time.monotonic()
            frames = socket.recv_multipart()
            if self.asked:
                self.answer(frames)
            else:
                self.hear(Message(frames))
        elif self.asked and time.monotonic() > self.give_up_s:  # 11
            self.asked = None
            self.drop_unread()
        elif time.monotonic() - self.heard_s > 1.0 and not self.live.poll(0):  # 12
            self.tell({"item": "silence"})
            self.heard_s, self.vain_since_s = time.monotonic(), None

    def hear(self, message):
        if message.epoch in self.left:  # 10
            return
        if self.position and message.epoch == self.position[0]:
            self.left.clear()
        first = message.seq if message.is_result else message.seq + 1
        if message.epoch == self.newest[0] and first <= self.newest[1]:  # 3
            self.go_back(message.epoch, first)
        self.newest = (message.epoch, message.seq)
        if self.position is None:  # 2
            if self.start == "oldest":
                self.ask({"verb": "snapshot"})
                return
            self.position = (message.epoch, first)
        if self.vain_since_s is not None and time.monotonic() - self.vain_since_s > 10.0:  # 11
            self.vain_since_s = None
            if message.epoch != self.position[0]:
                self.enter(message.epoch, first)
            else:
                self.missed_before(first)
        epoch, wanted = self.position
        if message.epoch != epoch or first > wanted:  # 5
            self.ask({"verb": "replay", "epoch": epoch, "from": wanted})
        elif message.is_result and message.seq == wanted:  # 4
            self.take(message)

    def ask(self, question):
        self.id += 1
        self.asked = question["verb"]
        now_s = time.monotonic()
        if self.vain_since_s is None:
            self.vain_since_s = now_s
        self.give_up_s = now_s + 0.7
        with contextlib.suppress(zmq.Again):
            self.query.send(json.dumps({**question, "id": self.id}).encode(), zmq.DONTWAIT)

    def answer(self, frames):
        head = json.loads(frames[0])
        if head["id"] != self.id:  # 6
            return
        verb, self.asked, self.vain_since_s = self.asked, None, None
        if verb == "snapshot":
            self.position = (head["oldest"]["epoch"], head["oldest"]["first"])
        else:
            for i in range(head["count"]):
                message = Message(frames[1 + 3 * i : 4 + 3 * i])
                self.missed_before(message.seq)
                if message.seq == self.position[1]:
                    self.take(message)
            self.missed_before(head["upto"] + 1)  # 7
            if head["next"] is None and head["upto"] + 1 < self.position[1]:
                self.go_back(self.position[0], head["upto"] + 1)
                self.newest = (self.position[0], head["upto"])
                self.drop_unread()
            if head["next"] is not None:  # 8
                self.enter(head["next"]["epoch"], head["next"]["first"])
        epoch, wanted = self.position
        ahead = self.newest[0] in self.left
        reached = self.newest[0] == epoch and wanted > self.newest[1]
        if not ahead and not reached:  # 9
            self.ask({"verb": "replay", "epoch": epoch, "from": wanted})

    def take(self, message):
        self.position = (message.epoch, message.seq + 1)
        self.tell(
            {
                "item": "result",
                "epoch": message.epoch,
                "seq": message.seq,
                "verdict": message.verdict,
                "camera": message.body["camera"],
                "part_id": message.part_id,
                "last_part_id": message.last_part_id,
                "reason": message.body["reason"],
                "replayed": bool(message.flags & REPLAYED),
            }
        )

    def missed_before(self, seq):
        epoch, wanted = self.position
        if seq > wanted:
            self.tell({"item": "missed", "first": wanted, "last": seq - 1})
            self.position = (epoch, seq)

    def go_back(self, epoch, first):
        if self.position and self.position[0] == epoch:
            self.tell({"item": "epoch", "epoch": epoch})
            self.position = (epoch, min(first, self.position[1]))

    def drop_unread(self):
        while self.live.poll(0):
            self.live.recv_multipart()

    def enter(self, epoch, first):
        self.left.add(self.position[0])
        self.position = (epoch, first)
        self.tell({"item": "epoch", "epoch": epoch})


def main():
    results, query, *start = sys.argv[1:]
    reader = Reader(results, query, start[0] if start else "now", lambda item: print(json.dumps(item), flush=True))
    try:
        while True:
            reader.turn()
    except KeyboardInterrupt:
        reader.close()


if __name__ == "__main__":
    main()
