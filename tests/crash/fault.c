// SPDX-License-Identifier: BSD-2-Clause
/*
 * Preloaded into a process: counts the system calls that change files in one folder, and ends the
 * process at one of them, or lets it fail, or writes down what each of them did.
 *
 * fault_arm(folder, at, mode) starts; fault_mark(number) is what the program says of its own
 * progress. The log, descriptor fault_log, has for each call a line and what was written:
 *
 *   w OFFSET LENGTH NAME\n DATA      s NAME\n      t LENGTH NAME\n
 *   r NAME NAME\n                    u NAME\n      m NUMBER\n
 *
 * Names are relative to the folder; "." is the folder itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { COUNT, KILL, NO_SPACE, IO_ERROR, DISK_FULL };

static char folder[PATH_MAX];
static size_t folder_size;
static long at = -1;
static int mode = COUNT;
static long events;
int fault_log = -1;

long fault_events(void)
{
	return events;
}

void fault_arm(const char *path, long number, int how)
{
	snprintf(folder, sizeof(folder), "%s", path);
	folder_size = strlen(folder);
	at = number;
	mode = how;
	events = 0;
}

void fault_disarm(void)
{
	folder_size = 0;
}

/* Without the functions below, which would count it. */
static void log_bytes(const void *data, size_t size)
{
	while (size) {
		long done = syscall(SYS_write, fault_log, data, size);

		if (done <= 0)
			abort();
		data = (const char *)data + done;
		size -= done;
	}
}

static void log_line(const char *format, ...)
{
	char line[2 * PATH_MAX + 64];
	va_list args;
	int size;

	if (fault_log < 0)
		return;
	va_start(args, format);
	size = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_bytes(line, size);
}

void fault_mark(long number)
{
	log_line("m %ld\n", number);
}

/* The name of a path in the folder; NULL for others. */
static const char *name_of_path(const char *path)
{
	if (!folder_size || strncmp(path, folder, folder_size))
		return NULL;
	if (!path[folder_size])
		return ".";
	return path[folder_size] == '/' ? path + folder_size + 1 : NULL;
}

static const char *name_of(int fd, char *path)
{
	char link[64];
	ssize_t size;

	if (!folder_size)
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	size = readlink(link, path, PATH_MAX - 1);
	if (size < 0)
		return NULL;
	path[size] = 0;
	return name_of_path(path);
}

/* One call that counts: 0 if it is to be done, else errno is set. */
static int event(int may_be_full)
{
	long number = events++;

	if (mode == DISK_FULL && number >= at && may_be_full) {
		errno = ENOSPC;
		return -1;
	}
	if (number != at)
		return 0;
	if (mode == KILL)
		kill(getpid(), SIGKILL);
	if (mode == NO_SPACE || mode == IO_ERROR) {
		errno = mode == NO_SPACE ? ENOSPC : EIO;
		return -1;
	}
	return 0;
}

#define REAL(name, type) \
	static type real; \
	if (!real) \
		real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*write_t)(int, const void *, size_t);
typedef ssize_t (*pwrite_t)(int, const void *, size_t, off64_t);
typedef int (*sync_t)(int);
typedef int (*truncate_t)(int, off64_t);
typedef int (*rename_t)(const char *, const char *);
typedef int (*unlink_t)(const char *);

ssize_t write(int fd, const void *data, size_t size)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	ssize_t done;
	off64_t offset;

	REAL("write", write_t);
	if (!name)
		return real(fd, data, size);
	if (event(1))
		return -1;
	offset = lseek64(fd, 0, SEEK_CUR);
	done = real(fd, data, size);
	if (done > 0 && fault_log >= 0) {
		log_line("w %lld %zd %s\n", (long long)offset, done, name);
		log_bytes(data, done);
	}
	return done;
}

static ssize_t do_pwrite(pwrite_t real, int fd, const void *data, size_t size, off64_t offset)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	ssize_t done;

	if (!name)
		return real(fd, data, size, offset);
	if (event(1))
		return -1;
	done = real(fd, data, size, offset);
	if (done > 0 && fault_log >= 0) {
		log_line("w %lld %zd %s\n", (long long)offset, done, name);
		log_bytes(data, done);
	}
	return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
	REAL("pwrite", pwrite_t);
	return do_pwrite(real, fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
	REAL("pwrite64", pwrite_t);
	return do_pwrite(real, fd, data, size, offset);
}

static int do_sync(sync_t real, int fd)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	int result;

	if (!name)
		return real(fd);
	if (event(0))
		return -1;
	result = real(fd);
	if (!result)
		log_line("s %s\n", name);
	return result;
}

int fsync(int fd)
{
	REAL("fsync", sync_t);
	return do_sync(real, fd);
}

int fdatasync(int fd)
{
	REAL("fdatasync", sync_t);
	return do_sync(real, fd);
}

static int do_truncate(truncate_t real, int fd, off64_t size)
{
	char path[PATH_MAX];
	const char *name = name_of(fd, path);
	int result;

	if (!name)
		return real(fd, size);
	if (event(0))
		return -1;
	result = real(fd, size);
	if (!result)
		log_line("t %lld %s\n", (long long)size, name);
	return result;
}

int ftruncate(int fd, off_t size)
{
	REAL("ftruncate", truncate_t);
	return do_truncate(real, fd, size);
}

int ftruncate64(int fd, off64_t size)
{
	REAL("ftruncate64", truncate_t);
	return do_truncate(real, fd, size);
}

int rename(const char *from, const char *to)
{
	const char *name = name_of_path(from);
	int result;

	REAL("rename", rename_t);
	if (!name)
		return real(from, to);
	if (event(1))
		return -1;
	result = real(from, to);
	if (!result)
		log_line("r %s %s\n", name, name_of_path(to));
	return result;
}

int unlink(const char *path)
{
	const char *name = name_of_path(path);
	int result;

	REAL("unlink", unlink_t);
	if (!name)
		return real(path);
	if (event(0))
		return -1;
	result = real(path);
	if (!result)
		log_line("u %s\n", name);
	return result;
}
