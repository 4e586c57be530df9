// Runs a program on a disk that stalls when a test says so.
//
//     slow_disk FOLDER GATE PROGRAM ARGUMENTS...
//
// While the file GATE exists, reads, writes and syncs of files under FOLDER wait, in PROGRAM and its children. Each
// call that waits adds a line to GATE.held: "main" or "other" for its thread, then the name of the call. A read that
// asks not to wait (RWF_NOWAIT) fails with EAGAIN, as on a real disk.
//
// The kernel hands those calls to this process (seccomp's user notification), so it works for programs in any
// language, and for calls that pass by the C library. Linux 5.5 and newer, without any right.
//
// Build: cc -O1 -o slow_disk slow_disk.c

#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} CALLS[] = {
    {SYS_pread64, "pread"},       {SYS_preadv, "preadv"},     {SYS_preadv2, "preadv2"},
    {SYS_pwrite64, "pwrite"},     {SYS_pwritev, "pwritev"},   {SYS_pwritev2, "pwritev2"},
    {SYS_fsync, "fsync"},         {SYS_fdatasync, "fdatasync"}, {SYS_fallocate, "fallocate"},
    {SYS_ftruncate, "ftruncate"},
};
enum { CALL_COUNT = sizeof CALLS / sizeof CALLS[0], HELD_MAX = 1024 };

static void fail(const char *what) {
    perror(what);
    exit(125);
}

// Puts the filter on this process, and returns the descriptor on which its calls are announced.
static int listen_to_calls(void) {
    struct sock_filter filter[CALL_COUNT + 3];
    int n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALL_COUNT; i++) {
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLS[i].number, CALL_COUNT - i, 0);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog program = {.len = n, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0) fail("seccomp");
    return listener;
}

static void send_descriptor(int to, int descriptor) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (sendmsg(to, &message, 0) < 0) fail("sendmsg");
}

static int receive_descriptor(int from) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header;
    int descriptor;
    // The program ended before it began.
    if (recvmsg(from, &message, 0) <= 0 || !(header = CMSG_FIRSTHDR(&message))) exit(125);
    memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return descriptor;
}

// Whether the descriptor of a call is a file under the folder.
static int is_under(const struct seccomp_notif *call, const char *folder) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/%u/fd/%d", call->pid, (int)call->data.args[0]);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t prefix = strlen(folder);
    return length > (ssize_t)prefix && !strncmp(path, folder, prefix) && path[prefix] == '/';
}

static void answer(int listener, __u64 id, int error) {
    struct seccomp_notif_resp response = {.id = id, .error = -error};
    if (!error) response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    // The thread may be gone meanwhile.
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

// Adds a line about a call that waits.
static void report(const char *file, const struct seccomp_notif *call) {
    char status[64], line[128];
    // A process's main thread has its number: /proc/NUMBER/task/NUMBER is there for others too, so its group says.
    snprintf(status, sizeof status, "/proc/%u/status", call->pid);
    FILE *from = fopen(status, "r");
    unsigned group = 0;
    while (from && fgets(line, sizeof line, from) && sscanf(line, "Tgid: %u", &group) != 1) {
    }
    if (from) fclose(from);
    FILE *to = fopen(file, "a");
    if (!to) fail(file);
    const char *name = "?";
    for (int i = 0; i < CALL_COUNT; i++) {
        if (CALLS[i].number == call->data.nr) name = CALLS[i].name;
    }
    fprintf(to, "%s %s\n", group == call->pid ? "main" : "other", name);
    fclose(to);
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: slow_disk FOLDER GATE PROGRAM ARGUMENTS...\n");
        return 125;
    }
    const char *folder = arguments[1], *gate = arguments[2];
    char held_file[4096];
    snprintf(held_file, sizeof held_file, "%s.held", gate);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) fail("socketpair");
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        int listener = listen_to_calls();
        send_descriptor(pair[1], listener);
        close(listener);
        execvp(arguments[3], arguments + 3);
        fail(arguments[3]);
    }
    close(pair[1]);
    // They are the program's to see.
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    int listener = receive_descriptor(pair[0]);

    __u64 held[HELD_MAX];
    int held_count = 0;
    for (;;) {
        struct pollfd ready = {.fd = listener, .events = POLLIN};
        if (poll(&ready, 1, held_count ? 1 : -1) < 0 && errno != EINTR) fail("poll");
        int is_stalled = access(gate, F_OK) == 0;
        if (ready.revents & POLLIN) {
            struct seccomp_notif call = {0};
            if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) continue;
            if (!is_stalled || !is_under(&call, folder)) {
                answer(listener, call.id, 0);
            } else if (call.data.nr == SYS_preadv2 && (call.data.args[5] & RWF_NOWAIT)) {
                answer(listener, call.id, EAGAIN);
            } else if (held_count == HELD_MAX) {
                answer(listener, call.id, EIO);
            } else {
                report(held_file, &call);
                held[held_count++] = call.id;
            }
        } else if (ready.revents) {
            // Nobody is left to make calls.
            break;
        }
        if (!is_stalled) {
            while (held_count) answer(listener, held[--held_count], 0);
        }
    }
    int status;
    if (waitpid(child, &status, 0) < 0) fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
