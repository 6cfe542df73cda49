"""No test may wait for the network, and none shares threads with its neighbours.

Where there is no GPU, kernels run in Triton's interpreter, which has to be said before Triton is first imported.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")
