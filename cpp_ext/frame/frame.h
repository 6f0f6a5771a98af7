// What the kernels of frame.cu read and write: their one argument each. native.py mirrors it.
#pragma once

struct Crop {
    const unsigned char* frame;  // (height, width, 3) BGR
    const float* landmarks;      // of face f: x and y of five points, from landmarks[f * stride] on
    const int* count;            // on the device: faces to crop. Those behind it are left as they are
    void* faces;                 // (most, size, size, 3) bytes BGR, or (most, 3, size, size) half RGB

    int height, width, row_bytes;  // of the frame; row_bytes from one row to the next
    int stride;                    // floats from one face's landmarks to the next: 10, or 15 in rows of YuNet
    int most, size;                // faces that fit, and the side of each in pixels
    float margin;                  // side of the square, as a multiple of the face's
    float scale_x, scale_y;        // pixels of the frame for one of the picture that the landmarks are of
    float mean_face[10];           // x and y of the landmarks of an upright face of side 1 about (0, 0)
    float mean[3], deviation[3];   // of red, green and blue; only for half: (grey level - mean) / deviation
};

struct Rows {
    // Classes at strides 8, 16 and 32, then objectness, boxes and landmarks: (pictures, cells, 1, 1, 4, 10)
    const float* outputs[12];
    float* scores;  // (pictures, cells of all strides), for the kernel's own use
    float* rows;    // (pictures, most, 15): x, y, width, height, five landmarks, score
    int* counts;    // (pictures): rows that were written. Those behind are left as they are

    int pictures, height, width;  // the sides are multiples of 32
    int most;                     // rows of a picture that fit: the best ones are kept
    float score;                  // the lowest score of a face
    float overlap;                // of two boxes with a larger IoU, the one with the lower score is dropped
};

constexpr int CROP_THREADS = 128;  // one for each pixel of a face
constexpr int ROWS_THREADS = 256;  // one block for each picture
constexpr int OVERSAMPLING = 4;    // the most samples along one side of a pixel of the crop
constexpr int VALUES = 15;         // of a row
