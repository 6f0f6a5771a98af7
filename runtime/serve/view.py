"""How the picture that the server sends is made: with or without what is drawn on it, blurred or not."""

from __future__ import annotations

from iern.runtime.imaging.images import Image
from iern.runtime.outputs.blur import FaceBlur
from iern.runtime.outputs.frame_result import FrameResult


class PictureView:
    """`view.render(result)` -> the picture. Any thread may change `blur` and `overlay`.

    Records, recordings and the window are not changed.
    """

    def __init__(self) -> None:
        self.blur = False
        self.overlay = True
        self._faces = FaceBlur()

    def hold(self, result: FrameResult) -> None:
        """A sink for every result: it keeps where faces are. In the frame that is shown the detector may miss one.

        It does so also while `blur` is off, so that the first blurred picture knows the faces before it.
        """
        self._faces.hold(result)

    def render(self, result: FrameResult) -> Image:
        """The picture of a result, (H, W, 3) uint8 BGR. Do not draw on it."""
        if self.blur:
            result = self._faces.blurred(result)
        return result.annotated if self.overlay else result.frame.image
