/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The floor: what a trapped TEE_IOC_VERSION costs when its supervisor does nothing but answer.
 *
 *     floor PROGRAM [ARGUMENT...]
 *
 * One receive, one process_vm_writev of the twelve bytes, one send, with SYNC_WAKE_UP set as gentee
 * sets it. No look-up, no check: any descriptor will do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/tee.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, uint64_t)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV 32UL
#endif

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int trap_tee_ioctls(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TEE_IOC_MAGIC << 8, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("no_new_privs");
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_NEW_LISTENER |
				    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
			    &program);
}

static void serve(int listener)
{
	struct tee_ioctl_version_data version = { 1, 0, TEE_GEN_CAP_GP };
	struct seccomp_notif call;
	struct seccomp_notif_resp answer = { 0 };
	struct iovec here = { &version, sizeof(version) };

	for (;;) {
		memset(&call, 0, sizeof(call));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
			if (errno == EINTR)
				continue;
			return; /* all clients are gone */
		}
		struct iovec there = { (void *)(uintptr_t)call.data.args[2], sizeof(version) };

		if (process_vm_writev((pid_t)call.pid, &here, 1, &there, 1, 0) < 0)
			die("process_vm_writev");
		answer.id = call.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

int main(int argc, char **argv)
{
	int pair[2], number;
	char go;

	if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 2;
	pid_t client = fork();

	if (client < 0)
		die("fork");
	if (client == 0) {
		prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0);
		number = trap_tee_ioctls();
		if (number < 0)
			die("seccomp");
		if (write(pair[1], &number, sizeof(number)) != sizeof(number) ||
		    read(pair[1], &go, 1) != 1)
			die("socket");
		close(number);
		execv(argv[1], argv + 1);
		die(argv[1]);
	}
	close(pair[1]);
	if (read(pair[0], &number, sizeof(number)) != sizeof(number))
		return 1;
	int pidfd = (int)syscall(SYS_pidfd_open, client, 0);
	int listener = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (listener < 0)
		die("listener");
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	if (write(pair[0], "g", 1) != 1)
		die("socket");
	serve(listener);
	return 0;
}
