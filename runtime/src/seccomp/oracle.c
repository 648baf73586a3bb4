/* The test's oracle: builds a filter with libseccomp from lines on stdin and writes its BPF to stdout.
 *   default ACTION | arch TOKEN | rule ACTION NAME [INDEX OP A B]...        (actions and tokens as numbers)
 * A rule that libseccomp refuses is an error: its exit code is then 3. */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(void) {
	char line[4096];
	scmp_filter_ctx ctx = NULL;
	while (fgets(line, sizeof line, stdin)) {
		char *word = strtok(line, " \n");
		if (!word) continue;
		if (!strcmp(word, "default")) {
			ctx = seccomp_init(strtoul(strtok(NULL, " \n"), NULL, 0));
			if (!ctx) return 2;
		} else if (!strcmp(word, "arch")) {
			int rc = seccomp_arch_add(ctx, strtoul(strtok(NULL, " \n"), NULL, 0));
			if (rc && rc != -17) return 2;
		} else if (!strcmp(word, "known")) {
			char *name = strtok(NULL, " \n");
			if (seccomp_syscall_resolve_name(name) != __NR_SCMP_ERROR) puts(name);
		} else {
			struct scmp_arg_cmp args[6];
			unsigned count = 0;
			unsigned long action = strtoul(strtok(NULL, " \n"), NULL, 0);
			char *name = strtok(NULL, " \n"), *index;
			int nr = seccomp_syscall_resolve_name(name), rc;
			if (nr == __NR_SCMP_ERROR) { fprintf(stderr, "%s: unknown\n", name); return 3; }
			while ((index = strtok(NULL, " \n"))) {
				args[count].arg = atoi(index);
				args[count].op = atoi(strtok(NULL, " \n"));
				args[count].datum_a = strtoull(strtok(NULL, " \n"), NULL, 0);
				args[count++].datum_b = strtoull(strtok(NULL, " \n"), NULL, 0);
			}
			if ((rc = seccomp_rule_add_array(ctx, action, nr, count, args)) != 0) {
				fprintf(stderr, "%s: %d\n", name, rc);
				return 3;
			}
		}
	}
	return ctx ? seccomp_export_bpf(ctx, 1) != 0 : 0;
}
