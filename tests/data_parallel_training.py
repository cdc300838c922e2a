"""A small training for `torchrun`: one rank or several, that write what each of them saw.

    torchrun --nproc-per-node=N data_parallel_training.py METHOD BATCH_SIZE STEPS FOLDER [EVERY [FAILURE]]

Each rank writes its history, a line a step, to FOLDER/RANK.json, its weights to FOLDER/RANK.safetensors, and
each step to stdout. With EVERY rank 0 keeps checkpoints in FOLDER/checkpoints. From step 5 on FAILURE "raise"
lets rank 1 fail, "kill" kills it, and "nan" spoils its photos; "slow" only takes a while.
"""

import dataclasses
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

from checkpointed_training import NAME, photos, settings, without_speed

from ddm_core import training
from ddm_core.checkpoint_options import CheckpointOptions, parse_interval
from ddm_core.checkpoints import save_weights
from ddm_core.data_parallel import joined_ranks
from ddm_core.obfuscators.store import Description, build_networks
from ddm_core.seeding import make_deterministic
from ddm_core.training_checkpoints import open_checkpoints

FAILS_AT = 5


def train(ranks, params, folder, every, failure):
    make_deterministic(params.seed, f"train/{NAME}", params.threads)
    networks = build_networks(Description(params, 1, 16))
    history, calls, whole = [], [], networks.round_trip

    def observe(observation):
        history.append(without_speed(observation))
        # One write: torchrun leaves output unbuffered, and parts of two processes' lines would mix.
        sys.stdout.write(f"{ranks.rank} {observation.step}\n")
        sys.stdout.flush()

    def failing(batch, *draws):
        calls.append(len(batch))
        hidden, restored = whole(batch, *draws)
        if failure == "slow":
            time.sleep(0.5)  # so that a busy machine can tell it to end in time
        fails = ranks.rank == 1 and len(calls) >= FAILS_AT
        if fails and failure == "raise":
            raise RuntimeError("the photos of rank 1 are gone")
        if fails and failure == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return hidden, restored * math.nan if fails and failure == "nan" else restored

    networks.round_trip = failing
    if every and ranks.leads:
        options = CheckpointOptions(str(folder / "checkpoints"), parse_interval(every))
        with open_checkpoints(options, NAME) as checkpoints:
            training.train(networks, photos(), params, NAME, observe, checkpoints=checkpoints, ranks=ranks)
    else:
        training.train(networks, photos(), params, NAME, observe, ranks=ranks)
    save_weights(networks, folder / f"{ranks.rank}.safetensors")
    (folder / f"{ranks.rank}.json").write_text(json.dumps({"history": history, "photos": calls}))


def main():
    training.OBSERVE_EVERY = 1
    method, batch_size, steps, folder, every, failure, *_ = [*sys.argv[1:], "", ""]
    params = dataclasses.replace(settings(method, int(steps)), batch_size=int(batch_size), precision="fp32")
    with joined_ranks() as ranks:
        train(ranks, params, Path(folder), every, failure)


if __name__ == "__main__":
    main()
