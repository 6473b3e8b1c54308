"""Who is trained, and on what? The hardened model on corpora against itself, and the control on their clean images for as long."""

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.machine import set_threads
from medadv.hardening.bundle import train_by_bundle
from medadv.hardening.cards import write_weights
from medadv.hardening.command import train_by_command
from medadv.hardening.folder import TRAINED, WEIGHTS, Arm
from medadv.hardening.training import Generations, Trainee
from medadv.hardening.work import Made, Work
from medadv.training.dataset import CorpusDataset, Mode


class Arms:
    """The two models in training, loaded when they are first asked for, each as its last epoch left it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.trainees: dict[Arm, Trainee] = {}

    def trained(self, arm: Arm, number: int, newest: Made) -> list[float]:
        """Train a model up to the end of a generation and write its weights down; gives the loss of each of the generation's epochs.

        Of a program of one's own no losses are known.
        """
        work, folder = self.work, self.work.home.generation(number, arm)
        if work.settings.foreign:
            if not (folder / WEIGHTS).exists():
                (train_by_command if work.settings.bundle is None else train_by_bundle)(work, arm, number, newest)
            return []
        trainee, until = self._trainee(arm, newest), number * work.settings.epochs
        if trainee.epochs < until:
            data = _training_data(work, arm, number, newest)
            while trainee.epochs < until:
                self._epoch(arm, trainee, data)
        if not (folder / WEIGHTS).exists():
            if trainee.epochs != until:
                raise IntegrityError(f"{folder / WEIGHTS} is gone, and training went on since: put it back, or begin anew with --out DIR")
            if trainee.average is not None:
                write_weights(folder / TRAINED, trainee.trained())
            write_weights(folder / WEIGHTS, trainee.weights())
        return trainee.losses[until - work.settings.epochs : until]

    def _epoch(self, arm: Arm, trainee: Trainee, data: Generations) -> None:
        work, epoch = self.work, trainee.epochs + 1
        data.set_epoch(trainee.epochs)
        # A run before may have computed with another number.
        set_threads(work.settings.threads or work.spec.execution.threads)

        def each(done: int, total: int) -> None:
            work.check()
            work.progress(f"training, {arm}", done, total, f"epoch {epoch}")

        beta = work.settings.beta if arm == "hardened" and work.settings.loss == "trades" else None
        trainee.train_epoch(data, beta, each)
        if trainee.diverged:
            # Before it is saved: what is kept stays the last epoch that was one.
            raise SpecError(
                f"training diverged: epoch {epoch} of the {arm} model left a model whose loss is no number (mean of the epoch: "
                f"{trainee.losses[-1]:g}); take a smaller hardening.rate (it is {work.settings.rate:g}), and begin anew with --out DIR"
            )
        trainee.save(work.home.state(arm))
        work.log("epoch", arm=arm, epoch=epoch, loss=trainee.losses[-1])

    def _trainee(self, arm: Arm, newest: Made) -> Trainee:
        if arm not in self.trainees:
            work = self.work
            trainee = Trainee(work.victim(newest).scored, work.settings, work.device)
            if work.home.state(arm).exists():
                trainee.restore(work.home.state(arm))
            self.trainees[arm] = trainee
        return self.trainees[arm]


def _training_data(work: Work, arm: Arm, number: int, newest: Made) -> Generations:
    settings = work.settings
    mode: Mode = "clean" if arm == "control" else "pair" if settings.loss == "trades" else "mixed"
    read = range(1, number + 1) if settings.read == "all" and arm == "hardened" else [number]
    corpora = [
        # Made by this hardening: nobody else's shards, which might be damaged on purpose.
        CorpusDataset(
            work.home.corpus(each),
            list(work.spec.attacks),
            mode=mode,
            probability=settings.share,
            seed=settings.seed,
            check=False,
        )
        for each in read
    ]
    return Generations(corpora, settings.seed)
