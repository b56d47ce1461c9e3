/*
 * emulated_library.cpp
 *		What makes the emulated device a faceattr_cuda.so, for tests on servers: faults
 *		are told by the file that FACEATTR_EMULATED_FAULTS names, which is read when a process loads
 *		the library, so that every session may have others.
 *
 * Its lines: "device 75", the compute capability (0: there is no device); "memory 9000000", the
 * bytes of its memory; "cudaMalloc 3 2", the third call of cudaMalloc fails with error 2
 *(emulated_fault). A thread waits for nothing, as CUDA's do: signals must be blocked where it
 * starts.
 */
#include "emulation.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <unistd.h>

__attribute__((constructor)) static void
start_thread()
{
	std::thread(
		[]
		{
			for (;;)
				pause();
		})
		.detach();
}

__attribute__((constructor)) static void
read_faults()
{
	static char word[64];
	const char *path = getenv("FACEATTR_EMULATED_FAULTS");
	FILE *file = path == nullptr ? nullptr : fopen(path, "r");
	int n, code;

	if (file == nullptr)
		return;
	while (fscanf(file, "%63s %d", word, &n) == 2)
		if (strcmp(word, "device") == 0)
			emulated_device(n);
		else if (strcmp(word, "memory") == 0)
			emulated_memory((size_t) n);
		else if (fscanf(file, "%d", &code) == 1)
		{
			emulated_fault(word, n, code);
			break; /* one fault, and the word is its own */
		}
	fclose(file);
}
