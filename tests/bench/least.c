/* The least that a process can be: what the plugin's VERSION is measured against.
 *
 * With a program's path it runs that instead and tells, on standard error, the most memory that it
 * had: a process counts what its parent had when it was started, so the parent must be small. */
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
	struct rusage usage;
	pid_t pid;
	int status;

	if (argc < 2)
		return 0;
	if (posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, environ))
		return 2;
	if (wait4(pid, &status, 0, &usage) != pid)
		return 2;
	fprintf(stderr, "maxrss %ld\n", usage.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}
