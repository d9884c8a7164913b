#!/bin/sh
# Keeps the files of a diskless Linux client as the site says: asks bootd for the list of them, fetches those that differ
# from what is here, puts each in place whole with its owner and permissions, and runs what is to be run after a change.
#
#     bootd-files.sh http://SERVER [SECONDS]
#
# With SECONDS it goes on and looks again that often, otherwise it does so once. The exit code is 0 when all files are as
# they should be, else 1; every failure is told on standard error. Needs a POSIX shell, wget, timeout, sha256sum, stat and the
# usual small tools; busybox has them all. Runs as root.
#
# The list has one line for each file, its fields parted by tabs:
#     file NAME SHA256 OWNER MODE PATH SCRIPT
# NAME is where its content is: SERVER/client/files/NAME. OWNER is "-" for root's, SCRIPT is "-" for none. A file that the
# server can't make is "failed NAME REASON", and stays here as it is. The last line is "end COUNT" of the former: a list
# that was cut off changes nothing.

set -u
LC_ALL=C
export LC_ALL
umask 077

server=${1:-}
interval=${2:-}
# What is still to be run outlives a run that was broken off, so that a changed file's script is not forgotten.
state=${BOOTD_FILES_STATE:-/run/bootd-files}
tab=$(printf '\t')

complain() {
  echo "bootd-files: $*" >&2
}

# Not wget's own limit of time: Debian's static busybox crashes at it (1.35.0, -T).
fetch() { # URL FILE
  timeout 120 wget -q -O "$2" "$1" 2>/dev/null
}

sum() { # FILE
  sha256sum < "$1" | cut -d' ' -f1
}

# Whether every link on the way to the directory is root's. Another user could else have led us elsewhere.
safe_way() { # DIRECTORY
  way=$1
  while [ -n "$way" ] && [ "$way" != / ]; do
    if [ -L "$way" ] && [ "$(stat -c %u "$way")" != 0 ]; then
      complain "$1: $way is a link that is not root's"
      return 1
    fi
    way=${way%/*}
  done
}

# Whether the name in this directory is a file that already is as it should be.
as_it_should_be() { # NAME SUM OWNER MODE
  [ -f "$1" ] && [ ! -L "$1" ] || return 1
  [ "$(stat -c %a "$1")" = "$4" ] || return 1
  case $3 in
    *:*) [ "$(stat -c %U:%G "$1")" = "$3" ] || return 1 ;;
    *) [ "$(stat -c %U "$1")" = "$3" ] || return 1 ;;
  esac
  [ "$(sum "$1")" = "$2" ]
}

# Puts one file in place. Afterwards "changed" is 1 if it was not as it should be.
place() { # NAME SUM OWNER MODE PATH
  changed=0
  case $5 in
    /*[!/]) ;;
    *) complain "$5: not the path of a file"; return 1 ;;
  esac
  case $5/ in
    *//* | */./* | */../*) complain "$5: not a plain path"; return 1 ;;
  esac
  directory=${5%/*}
  directory=${directory:-/}
  base=${5##*/}
  safe_way "$directory" || return 1
  if [ ! -d "$directory" ]; then
    (umask 022 && mkdir -p "$directory") || { complain "$5: can't make $directory"; return 1; }
  fi
  # From here on all is relative to the directory that was looked at, whatever becomes of its name.
  cd -P "$directory" || { complain "$5: can't go to $directory"; return 1; }
  as_it_should_be "./$base" "$2" "$3" "$4" && return 0
  if [ -d "./$base" ] && [ ! -L "./$base" ]; then
    complain "$5: is a directory"
    return 1
  fi
  # The name is new each time, and a directory is made or not made: nobody can have put a link there.
  new=./.bootd-files.$$
  rm -rf "$new"
  mkdir "$new" || { complain "$5: can't write to $directory"; return 1; }
  if write_new "$@" && mv_over "$new/file" "./$base"; then
    changed=1
    rm -rf "$new"
    return 0
  fi
  complain "$5: stays as it was"
  rm -rf "$new"
  return 1
}

write_new() { # NAME SUM OWNER MODE PATH
  fetch "$server/client/files/$1" "$new/file" || { complain "$5: can't fetch it"; return 1; }
  [ "$(sum "$new/file")" = "$2" ] || { complain "$5: what was fetched is not what was listed"; return 1; }
  chown "$3" "$new/file" || { complain "$5: can't give it to $3"; return 1; }
  chmod "$4" "$new/file" || { complain "$5: can't make its permissions $4"; return 1; }
}

# A link at the destination is replaced and not followed; mv would put the file into a directory that it leads to.
mv_over() { # NEW DESTINATION
  if [ -L "$2" ]; then
    rm -f "$2" || return 1
  fi
  mv -f "$1" "$2"
}

# Runs each script that a changed file named, once, and forgets those that succeeded.
run_scripts() {
  [ -s "$state/pending" ] || return 0
  sort -u "$state/pending" > "$state/running"
  : > "$state/left"
  while IFS= read -r script; do
    if "$script" < /dev/null; then
      echo "bootd-files: ran $script"
    else
      complain "$script: failed; it is tried again the next time"
      echo "$script" >> "$state/left"
    fi
  done < "$state/running"
  mv -f "$state/left" "$state/pending"
  [ ! -s "$state/pending" ]
}

once() {
  failures=0
  fetch "$server/client/files" "$state/list" || { complain "no list of files from $server: is this a client that may boot?"; return 1; }
  lines=$(grep -c "^file$tab" "$state/list")
  [ "$(tail -n 1 "$state/list")" = "end$tab$lines" ] || { complain "the list of files is cut off"; return 1; }
  while IFS=$tab read -r kind name digest owner mode path script; do
    if [ "$kind" = failed ]; then
      complain "$name: $digest $owner $mode $path $script"
      failures=$((failures + 1))
    fi
    [ "$kind" = file ] || continue
    [ "$owner" = - ] && owner=root:root
    # Before the change: a run that is broken off between the two would else forget the script.
    if [ "$script" != - ]; then
      cp "$state/pending" "$state/before" 2>/dev/null || : > "$state/before"
      echo "$script" >> "$state/pending"
    fi
    if ! place "$name" "$digest" "$owner" "$mode" "$path"; then
      failures=$((failures + 1))
      changed=0
    fi
    if [ "$changed" = 1 ]; then
      echo "bootd-files: wrote $path"
    elif [ "$script" != - ]; then
      mv -f "$state/before" "$state/pending"
    fi
  done < "$state/list"
  cd /
  run_scripts || failures=$((failures + 1))
  [ "$failures" = 0 ] || complain "$failures of $lines files or their scripts failed"
  [ "$failures" = 0 ]
}

case $server in
  http://*) server=${server%/} ;;
  *) complain "usage: bootd-files.sh http://SERVER [SECONDS]"; exit 2 ;;
esac
mkdir -p "$state" && [ ! -L "$state" ] && cd / || { complain "can't use $state"; exit 1; }
if [ -z "$interval" ]; then
  once
  exit
fi
while :; do
  once
  sleep "$interval" || exit 1
done
