/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The client that is measured: one worker process per pair of descriptors, driven line by line.
 *
 *     client IN OUT [IN OUT]...
 *     client spin CPU            a busy loop on one CPU, for the loaded figures
 *
 * Each worker reads commands from IN, one a line, and answers each with one line on OUT: numbers,
 * or "error" and a reason. Times are taken here, around the calls alone, in nanoseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <gentee/tee.h>
#include <linux/tee.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX 4096
#define PAGE 4096UL

struct shared {
	int id;
	int fd;
	char *address;
	size_t size;
};

static FILE *in, *out;
static int contexts[MAX];
static int n_contexts;
static struct {
	int fd;
	uint32_t id;
} sessions[MAX];
static int n_sessions;
static struct shared buffers[MAX];
static int n_buffers;
static int pair_registered; /* buffers 0 and 1 are registered memory */

static void answer(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(out, format, arguments);
	va_end(arguments);
	fputc('\n', out);
	fflush(out);
}

static void fail(const char *what)
{
	answer("error %s: %s", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void *pages(size_t size)
{
	char *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (address == MAP_FAILED)
		fail("mmap");
	memset(address, 0x5a, size); /* as a client has its data: the pages are there */
	return address;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || cpu == i)
			CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static void open_contexts(const char *path, int count)
{
	while (n_contexts < count) {
		int fd = open(path, O_RDWR | O_CLOEXEC);

		if (fd < 0)
			fail(path);
		contexts[n_contexts++] = fd;
	}
}

static uint32_t open_session(int fd, const uint8_t *uuid)
{
	struct tee_ioctl_open_session_arg arg;
	struct tee_ioctl_buf_data data = { (uintptr_t)&arg, sizeof(arg) };

	memset(&arg, 0, sizeof(arg));
	memcpy(arg.uuid, uuid, sizeof(arg.uuid));
	if (ioctl(fd, TEE_IOC_OPEN_SESSION, &data))
		fail("TEE_IOC_OPEN_SESSION");
	if (arg.ret) {
		answer("error open session: %#x, origin %u", arg.ret, arg.ret_origin);
		exit(1);
	}
	return arg.session;
}

static void close_session(int fd, uint32_t id)
{
	struct tee_ioctl_close_session_arg arg = { id };

	if (ioctl(fd, TEE_IOC_CLOSE_SESSION, &arg))
		fail("TEE_IOC_CLOSE_SESSION");
}

static void parse_uuid(const char *text, uint8_t *uuid)
{
	for (int i = 0; i < 16; i++) {
		unsigned int byte;

		while (*text == '-')
			text++;
		if (sscanf(text, "%2x", &byte) != 1)
			fail("uuid");
		uuid[i] = (uint8_t)byte;
		text += 2;
	}
}

static void alloc_buffers(size_t size, int count)
{
	while (n_buffers < count) {
		struct tee_ioctl_shm_alloc_data arg = { .size = size };
		struct shared *shm = &buffers[n_buffers++];

		shm->fd = ioctl(contexts[0], TEE_IOC_SHM_ALLOC, &arg);
		if (shm->fd < 0)
			fail("TEE_IOC_SHM_ALLOC");
		shm->id = arg.id;
		shm->size = arg.size;
		shm->address = mmap(NULL, arg.size, PROT_READ | PROT_WRITE, MAP_SHARED, shm->fd, 0);
		if (shm->address == MAP_FAILED)
			fail("mmap");
		memset(shm->address, 0x5a, shm->size);
	}
}

static void register_pair(size_t size)
{
	for (n_buffers = 0; n_buffers < 2; n_buffers++) {
		struct shared *shm = &buffers[n_buffers];
		struct tee_ioctl_shm_register_data arg = { .length = size };

		shm->address = pages(size);
		shm->size = size;
		arg.addr = (uintptr_t)shm->address;
		shm->fd = ioctl(contexts[0], TEE_IOC_SHM_REGISTER, &arg);
		if (shm->fd < 0)
			fail("TEE_IOC_SHM_REGISTER");
		shm->id = arg.id;
	}
	pair_registered = 1;
}

/* An INVOKE with as many parameters as are asked for, beside its buf_data, as libteec has it. */
struct invoke {
	struct tee_ioctl_buf_data data;
	struct tee_ioctl_invoke_arg arg;
	struct tee_ioctl_param params[4];
};

static void prepare(struct invoke *call, uint32_t func, unsigned int params)
{
	memset(call, 0, sizeof(*call));
	call->data.buf_ptr = (uintptr_t)&call->arg;
	call->data.buf_len = sizeof(call->arg) + params * sizeof(call->params[0]);
	call->arg.func = func;
	call->arg.num_params = params;
}

static void set_memref(struct tee_ioctl_param *param, uint64_t attr, const struct shared *shm)
{
	param->attr = attr;
	param->a = 0;
	param->b = shm->size;
	param->c = (uint64_t)shm->id;
}

static inline void invoke(int session, struct invoke *call)
{
	call->arg.session = sessions[session].id;
	if (ioctl(sessions[session].fd, TEE_IOC_INVOKE, &call->data))
		fail("TEE_IOC_INVOKE");
	if (call->arg.ret) {
		answer("error invoke: %#x, origin %u", call->arg.ret, call->arg.ret_origin);
		exit(1);
	}
}

static double version_rounds(int rounds)
{
	struct tee_ioctl_version_data version;
	double start = now();

	for (int i = 0; i < rounds; i++)
		if (ioctl(contexts[i % n_contexts], TEE_IOC_VERSION, &version))
			fail("TEE_IOC_VERSION");
	return (now() - start) / rounds;
}

static double invoke_rounds(uint32_t func, int rounds, int targets)
{
	struct invoke call;

	prepare(&call, func, 0);
	double start = now();

	for (int i = 0; i < rounds; i++)
		invoke(i % targets, &call);
	return (now() - start) / rounds;
}

/* One memref of a shared buffer after the other: input and output. */
static double memref_rounds(uint32_t func, int rounds, int targets, int first)
{
	struct invoke call;

	prepare(&call, func, 1);
	double start = now();

	for (int i = 0; i < rounds; i++) {
		set_memref(call.params, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT,
			   &buffers[first + i % targets]);
		invoke(0, &call);
	}
	return (now() - start) / rounds;
}

/* Two memrefs: buffer 0 goes in, buffer 1 comes out. */
static double pair_rounds(uint32_t func, int rounds)
{
	struct invoke call;

	prepare(&call, func, 2);
	double start = now();

	for (int i = 0; i < rounds; i++) {
		set_memref(&call.params[0], TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, &buffers[0]);
		set_memref(&call.params[1], TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, &buffers[1]);
		invoke(0, &call);
	}
	return (now() - start) / rounds;
}

/* Both directions with plain memcpy, between memory that is there. */
static double memcpy_rounds(size_t size, int rounds)
{
	static char *inside;
	static size_t inside_size;

	if (!pair_registered || buffers[0].size != size)
		fail("register first");
	if (inside_size < size) {
		inside = pages(size);
		inside_size = size;
	}
	double start = now();

	for (int i = 0; i < rounds; i++) {
		memcpy(inside, buffers[0].address, size);
		__asm__ volatile("" ::"r"(inside) : "memory");
		memcpy(buffers[1].address, inside, size);
		__asm__ volatile("" ::"r"(buffers[1].address) : "memory");
	}
	return (now() - start) / rounds;
}

static double session_rounds(const uint8_t *uuid, int rounds)
{
	double start = now();

	for (int i = 0; i < rounds; i++)
		close_session(contexts[0], open_session(contexts[0], uuid));
	return (now() - start) / rounds;
}

/* The same with a command in between: what a task does in one call. */
static double visit_rounds(const uint8_t *uuid, uint32_t func, int rounds)
{
	struct invoke call;

	prepare(&call, func, 0);
	double start = now();

	for (int i = 0; i < rounds; i++) {
		sessions[0].fd = contexts[0];
		sessions[0].id = open_session(contexts[0], uuid);
		invoke(0, &call);
		close_session(contexts[0], sessions[0].id);
	}
	return (now() - start) / rounds;
}

static double task_rounds(const uint8_t *uuid, uint32_t func, int rounds)
{
	double start = now();

	for (int i = 0; i < rounds; i++) {
		struct tee_ioctl_task_arg arg = { .func = func };
		struct tee_ioctl_buf_data data = { (uintptr_t)&arg, sizeof(arg) };

		memcpy(arg.uuid, uuid, sizeof(arg.uuid));
		if (ioctl(contexts[0], TEE_IOC_TASK, &data))
			fail("TEE_IOC_TASK");
		if (arg.ret) {
			answer("error task: %#x, origin %u", arg.ret, arg.ret_origin);
			exit(1);
		}
	}
	return (now() - start) / rounds;
}

/* Fork, exec of /bin/true, and its end. */
static double exec_rounds(int rounds)
{
	char *argv[] = { "true", NULL }, *none[] = { NULL };
	double start = now();

	for (int i = 0; i < rounds; i++) {
		pid_t child = fork();
		int status;

		if (!child) {
			execve("/bin/true", argv, none);
			_exit(127);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			fail("/bin/true");
	}
	return (now() - start) / rounds;
}

static double file_rounds(const char *path, int rounds)
{
	double start = now();

	for (int i = 0; i < rounds; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			fail(path);
		close(fd);
	}
	return (now() - start) / rounds;
}

/* Calls for some milliseconds; calls per second. */
static double version_rate(double milliseconds)
{
	double start = now(), end;
	long calls = 0;

	do {
		version_rounds(16);
		calls += 16;
		end = now();
	} while (end - start < milliseconds * 1e6);
	return (double)calls * 1e9 / (end - start);
}

static double invoke_rate(uint32_t func, double milliseconds)
{
	double start = now(), end;
	long calls = 0;

	do {
		invoke_rounds(func, 16, 1);
		calls += 16;
		end = now();
	} while (end - start < milliseconds * 1e6);
	return (double)calls * 1e9 / (end - start);
}

static double session_rate(const uint8_t *uuid, double milliseconds)
{
	double start = now(), end;
	long calls = 0;

	do {
		session_rounds(uuid, 4);
		calls += 4;
		end = now();
	} while (end - start < milliseconds * 1e6);
	return (double)calls * 1e9 / (end - start);
}

static void run(char *line)
{
	char word[32], text[256];
	uint8_t uuid[16];
	long a, b, c, d;

	if (sscanf(line, "%31s", word) != 1)
		fail("empty line");
	line += strlen(word);
	if (!strcmp(word, "contexts") && sscanf(line, "%255s %ld", text, &a) == 2) {
		open_contexts(text, (int)a);
		answer("%d", n_contexts);
	} else if (!strcmp(word, "sessions") && sscanf(line, "%255s %ld", text, &a) == 2) {
		parse_uuid(text, uuid);
		for (double start = now(); n_sessions < a; n_sessions++) {
			int fd = contexts[n_sessions % n_contexts];

			sessions[n_sessions].id = open_session(fd, uuid);
			sessions[n_sessions].fd = fd;
			if (n_sessions + 1 == a)
				answer("%f", now() - start);
		}
	} else if (!strcmp(word, "buffers") && sscanf(line, "%ld %ld", &a, &b) == 2) {
		alloc_buffers((size_t)a, (int)b);
		answer("%d", n_buffers);
	} else if (!strcmp(word, "register") && sscanf(line, "%ld", &a) == 1) {
		register_pair((size_t)a);
		answer("2");
	} else if (!strcmp(word, "pin") && sscanf(line, "%ld", &a) == 1) {
		pin((int)a);
		answer("0");
	} else if (!strcmp(word, "version") && sscanf(line, "%ld", &a) == 1) {
		answer("%f", version_rounds((int)a));
	} else if (!strcmp(word, "invoke") && sscanf(line, "%ld %ld %ld", &a, &b, &c) == 3) {
		answer("%f", invoke_rounds((uint32_t)a, (int)b, (int)c));
	} else if (!strcmp(word, "memref") &&
		   sscanf(line, "%ld %ld %ld %ld", &a, &b, &c, &d) == 4) {
		answer("%f", memref_rounds((uint32_t)a, (int)b, (int)c, (int)d));
	} else if (!strcmp(word, "pair") && sscanf(line, "%ld %ld", &a, &b) == 2) {
		answer("%f", pair_rounds((uint32_t)a, (int)b));
	} else if (!strcmp(word, "memcpy") && sscanf(line, "%ld %ld", &a, &b) == 2) {
		answer("%f", memcpy_rounds((size_t)a, (int)b));
	} else if (!strcmp(word, "session") && sscanf(line, "%255s %ld", text, &a) == 2) {
		parse_uuid(text, uuid);
		answer("%f", session_rounds(uuid, (int)a));
	} else if (!strcmp(word, "visit") && sscanf(line, "%255s %ld %ld", text, &a, &b) == 3) {
		parse_uuid(text, uuid);
		answer("%f", visit_rounds(uuid, (uint32_t)a, (int)b));
	} else if (!strcmp(word, "task") && sscanf(line, "%255s %ld %ld", text, &a, &b) == 3) {
		parse_uuid(text, uuid);
		answer("%f", task_rounds(uuid, (uint32_t)a, (int)b));
	} else if (!strcmp(word, "session_rate") && sscanf(line, "%255s %ld", text, &a) == 2) {
		parse_uuid(text, uuid);
		answer("%f", session_rate(uuid, (double)a));
	} else if (!strcmp(word, "exec") && sscanf(line, "%ld", &a) == 1) {
		answer("%f", exec_rounds((int)a));
	} else if (!strcmp(word, "files") && sscanf(line, "%255s %ld", text, &a) == 2) {
		answer("%f", file_rounds(text, (int)a));
	} else if (!strcmp(word, "version_rate") && sscanf(line, "%ld", &a) == 1) {
		answer("%f", version_rate((double)a));
	} else if (!strcmp(word, "invoke_rate") && sscanf(line, "%ld %ld", &a, &b) == 2) {
		answer("%f", invoke_rate((uint32_t)a, (double)b));
	} else {
		errno = EINVAL;
		fail(word);
	}
}

static void work(const char *in_fd, const char *out_fd)
{
	char line[512];

	in = fdopen(atoi(in_fd), "r");
	out = fdopen(atoi(out_fd), "w");
	if (!in || !out)
		exit(2);
	while (fgets(line, sizeof(line), in))
		run(line);
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	if (argc == 3 && !strcmp(argv[1], "spin")) {
		prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0);
		pin(atoi(argv[2]));
		for (;;)
			__asm__ volatile("");
	}
	if (argc < 3 || argc % 2 == 0)
		return 2;
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	for (int i = 3; i < argc; i += 2) {
		pid_t worker = fork();

		if (worker < 0)
			return 1;
		if (worker == 0) {
			prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0);
			work(argv[i], argv[i + 1]);
			return 0;
		}
	}
	work(argv[1], argv[2]);
	while (wait(NULL) > 0)
		;
	return 0;
}
