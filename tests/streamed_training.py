"""A small training that reads shards, in a process of its own, to be killed; or in several, by `torchrun`.

    python streamed_training.py PREPARED FOLDER STEPS

Checkpoints lie in FOLDER/checkpoints, one after every fifth step; rank 0 writes FOLDER/model, each rank the
numbers of photos in its batches to FOLDER/RANK.json, and each checkpoint's step is told on stdout.
"""

import dataclasses
import json
import sys
from pathlib import Path

from checkpointed_training import settings

from ddm_core.checkpoint_options import CheckpointOptions, Interval
from ddm_core.data_parallel import joined_ranks
from ddm_core.obfuscators.ddm import DdmNetworks
from ddm_core.stages import train


def main():
    prepared, folder, steps = sys.argv[1:]
    folder = Path(folder)
    prepared = prepared if "://" in prepared else Path(prepared)
    params = dataclasses.replace(settings("ddm", int(steps)), precision="fp32", batch_size=8, data="stream")
    whole, photos = DdmNetworks.round_trip, []

    def noting(networks, batch, *draws):
        photos.append(len(batch))
        print(len(photos), flush=True)
        return whole(networks, batch, *draws)

    DdmNetworks.round_trip = noting
    with joined_ranks() as ranks:
        if ranks.leads:
            train.run(
                params,
                name="ddm",
                prepared=prepared,
                model=folder / "model",
                history=folder / "history",
                tracked=False,
                checkpoints=CheckpointOptions(str(folder / "checkpoints"), Interval(steps=5)),
                ranks=ranks,
            )
        else:
            train.follow(params, name="ddm", prepared=prepared, ranks=ranks)
    (folder / f"{ranks.rank}.json").write_text(json.dumps(photos))


if __name__ == "__main__":
    main()
