"""What several tests of training do."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tinysql.training.loop import Trainer


class Killed(Exception):
    pass


@pytest.fixture
def killed_at() -> Callable[[int], AbstractContextManager[None]]:
    """`with killed_at(25): fit(...)`: training is cut off before step 25."""

    @contextmanager
    def cut_off(step: int) -> Iterator[None]:
        real = Trainer.step

        def die(self: Trainer, batch: object) -> object:
            if self.state.step == step:
                raise Killed
            return real(self, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "step", die)
            with pytest.raises(Killed):
                yield

    return cut_off
