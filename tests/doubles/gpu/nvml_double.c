/* A double of NVML, as far as runtime/power/nvml.py calls it: GPUs whose values a test sets. */
#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, GPU_IS_LOST = 15 };
enum { MOST = 4 };

struct device {
    char name[64];
    unsigned long long millijoules;
    unsigned int milliwatts;
    int energy_result, power_result;
};
static struct device devices[MOST];
static unsigned int number;
static int initialized, init_result;

/* What a test calls. */
void double_set(unsigned int count, int init) { number = count; init_result = init; initialized = 0; }
void double_set_device(unsigned int index, const char *name, unsigned long long millijoules, unsigned int milliwatts,
                       int energy_result, int power_result) {
    struct device *device = &devices[index];
    snprintf(device->name, sizeof device->name, "%s", name);
    device->millijoules = millijoules;
    device->milliwatts = milliwatts;
    device->energy_result = energy_result;
    device->power_result = power_result;
}

/* NVML's functions, with the signatures of nvml.h. */
int nvmlInit_v2(void) {
    initialized = init_result == SUCCESS;
    return init_result;
}
int nvmlDeviceGetCount_v2(unsigned int *count) {
    if (!initialized) return UNINITIALIZED;
    *count = number;
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct device **handle) {
    if (!initialized) return UNINITIALIZED;
    if (index >= number) return INVALID_ARGUMENT;
    *handle = &devices[index];
    return SUCCESS;
}
int nvmlDeviceGetName(struct device *device, char *name, unsigned int length) {
    if (strlen(device->name) >= length) return INVALID_ARGUMENT;
    strcpy(name, device->name);
    return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(struct device *device, unsigned long long *millijoules) {
    if (device->energy_result == SUCCESS) *millijoules = device->millijoules;
    return device->energy_result;
}
int nvmlDeviceGetPowerUsage(struct device *device, unsigned int *milliwatts) {
    if (device->power_result == SUCCESS) *milliwatts = device->milliwatts;
    return device->power_result;
}
const char *nvmlErrorString(int result) {
    switch (result) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case NOT_SUPPORTED: return "Not Supported";
    case 9: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}
