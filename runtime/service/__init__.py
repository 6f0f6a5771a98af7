"""An address that takes an image and answers with the faces in it. The live page of the loop is in `serve/`."""
