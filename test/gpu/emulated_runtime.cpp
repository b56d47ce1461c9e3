/*
 * emulated_runtime.cpp
 *		The emulated device's memory and errors, and what the tests set and ask of it; see
 *		emulation.h.
 */
#include "emulated_runtime.h"

#include "races.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

static int capability = 90, alive, calls, fail_at, convolutions;
static size_t device_size, device_used;
static const char *failed;
static cudaError_t last_error;
static const char *fault_call; /* or NULL */
static int fault_n;
static cudaError_t fault_code; /* cudaSuccess: what is usual for the call */
static bool lost;
bool emulated_calls_allowed = true;
static std::map<char *, size_t> device_memory; /* address -> size */
static std::map<char *, size_t> host_memory;

void
emulated_complain(const char *message, ...)
{
	va_list arguments;

	fprintf(stderr, "emulated device: ");
	va_start(arguments, message);
	vfprintf(stderr, message, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	abort();
}

/* --- What the tests set and ask ---------------------------------------------------- */

void
emulated_device(int now)
{
	capability = now;
}

void
emulated_memory(size_t bytes)
{
	device_size = bytes;
}

void
emulated_fail(int n)
{
	calls = 0;
	fail_at = n;
	failed = nullptr;
	last_error = cudaSuccess;
}

void
emulated_fault(const char *call, int n, int code)
{
	fault_call = call;
	fault_n = n;
	fault_code = (cudaError_t) code;
	lost = false; /* as in a new process */
}

int
emulated_calls()
{
	return calls;
}

const char *
emulated_failed()
{
	return failed;
}

int
emulated_alive()
{
	return alive;
}

int
emulated_convolutions()
{
	return convolutions;
}

void
emulated_convolved()
{
	convolutions++;
}

bool
emulated_fails(const char *call)
{
	if (!emulated_calls_allowed)
		emulated_complain("CUDA is called by what a stream has called");
	bool fault = fault_call != nullptr && strcmp(call, fault_call) == 0 && --fault_n == 0;

	if (++calls != fail_at && !fault && !lost)
		return false;
	failed = call;
	lost = lost || (fault && (fault_code >= cudaErrorIllegalAddress ||
							  fault_code == cudaErrorInsufficientDriver));
	return true;
}

void
emulated_count(int born)
{
	alive += born;
}

void
emulated_touch(const void *address, size_t bytes, bool writes)
{
	races_touch(address, bytes, writes);
}

/* --- Errors --------------------------------------------------------------------------- */

cudaError_t
failure(cudaError_t usual)
{
	return fault_code != cudaSuccess ? fault_code : usual;
}

cudaError_t
fails_with(cudaError_t code)
{
	if (code != cudaSuccess)
		last_error = code;
	return code;
}

/* --- Memory --------------------------------------------------------------------------- */

static cudaError_t
allocate(std::map<char *, size_t> &memory, void **address, size_t bytes)
{
	char *block = (char *) aligned_alloc(256, (bytes + 255) / 256 * 256);

	if (bytes == 0 || block == nullptr)
		emulated_complain("%zu bytes are asked for", bytes);
	memset(block, 0xff, (bytes + 255) / 256 * 256); /* no number in any type */
	memory[block] = bytes;
	races_add(block, bytes, &memory == &host_memory);
	emulated_count(1);
	*address = block;
	return cudaSuccess;
}

static void
give_back(std::map<char *, size_t> &memory, void *address)
{
	auto block = memory.find((char *) address);

	if (address == nullptr)
		return;
	if (block == memory.end())
		emulated_complain("memory is freed that was not given");
	emulated_freed(address);
	if (&memory == &device_memory)
		device_used -= block->second;
	ASAN_UNPOISON_MEMORY_REGION(block->first, block->second);
	free(block->first);
	memory.erase(block);
	emulated_count(-1);
}

static bool
lies_in(const std::map<char *, size_t> &memory, const void *address, size_t bytes)
{
	auto block = memory.upper_bound((char *) address);

	if (block == memory.begin())
		return false;
	--block;
	return (char *) address + bytes <= block->first + block->second;
}

bool
emulated_pinned(const void *address, size_t bytes)
{
	return lies_in(host_memory, address, bytes);
}

void
emulated_open_device()
{
	for (auto &block : device_memory)
		ASAN_UNPOISON_MEMORY_REGION(block.first, block.second);
}

void
emulated_shut_device()
{
	for (auto &block : device_memory)
		ASAN_POISON_MEMORY_REGION(block.first, block.second);
}

void
emulated_check(const void *address, size_t bytes, size_t alignment, const char *what)
{
	if (!lies_in(device_memory, address, bytes))
		emulated_complain("%s: %zu bytes that are not the device's", what, bytes);
	if ((uintptr_t) address % alignment != 0)
		emulated_complain("%s: not aligned to %zu bytes", what, alignment);
}

cudaError_t
cudaMalloc(void **address, size_t bytes)
{
	CALL(cudaErrorMemoryAllocation);
	if (device_size > 0 && bytes > device_size - device_used)
		return fails_with(cudaErrorMemoryAllocation);
	device_used += bytes;
	allocate(device_memory, address, bytes);
	ASAN_POISON_MEMORY_REGION(*address, bytes);
	return cudaSuccess;
}

cudaError_t
cudaMallocHost(void **address, size_t bytes)
{
	CALL(cudaErrorMemoryAllocation);
	return allocate(host_memory, address, bytes);
}

cudaError_t
cudaFree(void *address)
{
	bool fails = emulated_fails(__func__);

	give_back(device_memory, address);
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t
cudaFreeHost(void *address)
{
	bool fails = emulated_fails(__func__);

	give_back(host_memory, address);
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

/* --- The device, and what it says ---------------------------------------------------- */

cudaError_t
cudaGetDeviceCount(int *count)
{
	CALL(cudaErrorUnknown);
	*count = capability > 0;
	return fails_with(capability > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t
cudaSetDevice(int device)
{
	CALL(cudaErrorDevicesUnavailable);
	return fails_with(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t
cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
	CALL(cudaErrorUnknown);
	if (attribute != cudaDevAttrComputeCapabilityMajor &&
		attribute != cudaDevAttrComputeCapabilityMinor)
		emulated_complain("an attribute that is not emulated");
	*value = attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10;
	return cudaSuccess;
}

/* There is code for those that the Makefile names, and what runs the same. */
cudaError_t
cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *)
{
	CALL(cudaErrorInvalidDeviceFunction);
	memset(attributes, 0, sizeof(*attributes));
	return fails_with(capability < 75 || capability / 10 == 11 ? cudaErrorNoKernelImageForDevice
															   : cudaSuccess);
}

cudaError_t
cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
	CALL(cudaErrorUnknown);
	memset(properties, 0, sizeof(*properties));
	snprintf(properties->name, sizeof(properties->name), "Emulated GPU / %d", capability);
	properties->major = capability / 10;
	properties->minor = capability % 10;
	return cudaSuccess;
}

cudaError_t
cudaGetDevice(int *device)
{
	CALL(cudaErrorInvalidValue);
	*device = 0;
	return cudaSuccess;
}

cudaError_t
cudaDriverGetVersion(int *version)
{
	CALL(cudaErrorInvalidValue);
	*version = 13010;
	return cudaSuccess;
}

cudaError_t
cudaRuntimeGetVersion(int *version)
{
	CALL(cudaErrorInvalidValue);
	*version = 13000;
	return cudaSuccess;
}

cudaError_t
cudaGetLastError()
{
	cudaError_t error = last_error;

	last_error = cudaSuccess;
	CALL(cudaErrorLaunchFailure);
	return error;
}

const char *
cudaGetErrorName(cudaError_t code)
{
	switch (code)
	{
		case cudaErrorNoDevice:
			return "cudaErrorNoDevice";
		case cudaErrorInsufficientDriver:
			return "cudaErrorInsufficientDriver";
		case cudaErrorSystemDriverMismatch:
			return "cudaErrorSystemDriverMismatch";
		case cudaErrorMemoryAllocation:
			return "cudaErrorMemoryAllocation";
		case cudaErrorIllegalAddress:
			return "cudaErrorIllegalAddress";
		default:
			return "cudaErrorEmulated";
	}
}

const char *
cudaGetErrorString(cudaError_t)
{
	return "words for an emulated error";
}
