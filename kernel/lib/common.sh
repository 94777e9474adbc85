# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Shared by the scripts of kernel/: where the cache is, and how a Debian suite
# is reached through the mirror that this machine's apt already uses.

export gds_cache=${GDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gds}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$@"; exit 1; }

# A mirror that carries this machine's own release carries the other suites too.
# Its address is asked for, so that none stands in the tree.
mirror_uri() {
	# shellcheck disable=SC2016 # apt's own placeholders
	apt-get indextargets --format '$(REPO_URI) $(CREATED_BY) $(LABEL) $(CODENAME)' \
		'Created-By: Packages' 'Label: Debian' | awk '{ print $1; exit }'
}

suite_line() {
	local suite=$1 uri
	uri=$(mirror_uri)
	[ -n "$uri" ] || die "apt knows no Debian mirror: run apt-get update first"
	printf 'deb [signed-by=%s] %s %s main\n' \
		"${GDS_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}" "$uri" "$suite"
}

# apt with one suite and a state of its own below directory $1, so that the
# machine's own sources stay as they are.
private_apt_setup() {
	local dir=$1 suite=$2
	mkdir -p "$dir/lists/partial" "$dir/archives/partial"
	suite_line "$suite" >"$dir/sources.list"
	cat >"$dir/apt.conf" <<-EOF
		Dir::State::Lists "$dir/lists";
		Dir::Cache "$dir";
		Dir::Cache::archives "$dir/archives";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		APT::Sandbox::User "";
	EOF
}

# hash of the contents of files and of the strings given on standard input
key_of() { sha256sum | cut -c1-16; }
