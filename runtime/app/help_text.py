"""What --help prints below the options of the webcam loop. It imports no OpenCV."""

from __future__ import annotations

from iern.runtime.app.keys import key_table

EPILOG = f"""\
examples:
  webcam.py                                    camera 0 in a window; h shows the keys, q quits
  webcam.py --mirror                           the same as in a mirror; records stay as the camera saw it
  webcam.py --source 1                         the second camera (Linux: also /dev/video2)
  webcam.py --source 0 --source rtsp://user:password@camera/stream
                                               several cameras at once, with one model and one picture
  webcam.py --source clip.mp4 --headless --record out.webm
                                               annotate a video on a machine without a display
  webcam.py --source rtsp://user:password@camera/stream --jsonl records.jsonl
                                               write the results of a network camera as data
  webcam.py --source 0 --size 1280x720 --fps 30 --codec MJPG
                                               request a camera mode; the real mode is printed
  ffmpeg -i clip.ts -f rawvideo -pix_fmt bgr24 -s 640x480 - | webcam.py --source - --stdin-format 640x480:bgr24
                                               frames from another program
  webcam.py --source photo.jpg --headless --still annotated.png
                                               annotate one image
  webcam.py --source photos/ --headless        print one line per image, sub-folders included
  webcam.py --source photos/ --headless --annotate annotated/
                                               write each of them with its faces drawn
  webcam.py --headless --jsonl records-%Y%m%d-%H%M%S.jsonl
                                               write a new file at each start
  webcam.py --headless --mqtt mqtt://broker.local/hall/faces --mqtt-on-change --mqtt-discovery
                                               tell Home Assistant who is there and with which expression
  webcam.py --provider cuda --strict           run on the GPU, or end with an error
  webcam.py --prior uniform                    expect all expressions equally often
  webcam.py --headless --serve 8080            show a live page on http://127.0.0.1:8080/, for this machine only
  webcam.py --headless --serve 0.0.0.0:8080    show it to the network; the address is printed with its token
  webcam.py --model office.fp16.engine --rebuild
                                               use a TensorRT engine, and rebuild it if it does not fit

Keys in the window:
{key_table()}

Sources: a file or folder delivers every frame. A camera or stream delivers its latest frame; frames that
arrive while the loop is busy are dropped and counted, so the picture is never late. Of images one line each
is printed: its name, and each face's expression, probability and box [x, y, width, height]. A source that
disconnects, stalls, goes black or freezes is reopened until it recovers, or until --give-up. A source that
is absent at the start is an error. Several sources hold each other back in nothing: a lost one has a dark
tile, and the loop ends when all have ended.

Output files: %Y, %m, %d, %H, %M and %S in a file name become the time of the start. An existing file is
replaced, unless it is an input or another output: that is an error, and nothing is opened. With --jsonl -
or --csv - the records go to the standard output, and everything else is printed on stderr.

JSON records: one line per frame with "schema", "start" (wall clock), "frame", "time" (seconds), "name",
"segment", "faces" and "latency_ms", and with several sources "source". A face has "track" (its number
over time, or null), "box" [x, y, width, height] in pixels, clipped to the frame, "score" (of the
detector), "expression", "probability", "probabilities" by expression, "uncertain" and "disagreement".
Disagreement is 0 to 1: how far the predictions under the single contexts (strata) are from their mean.
If it is high, the context decides. A model with one stratum has none.

A face is "uncertain" if its probability is below the threshold in the model's file. It is then labelled
"uncertain"; the JSON records keep its most likely expression. A model without a threshold names every
face; train/calibrate.py computes a threshold.

Exit status: 0 at the end of the source, and after q, Esc, Ctrl-C or SIGTERM, with all files finished;
1 after one line on stderr, if something cannot be opened, read or written, even if the loop continued
without it; 2 for wrong usage.

python -m iern.runtime.doctor prints what is installed, what the loop will use, and how to fix problems.
"""
