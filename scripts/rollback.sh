#!/usr/bin/env bash
# Brings an older release back, on every instance, at once.
set -euo pipefail
# shellcheck source=scripts/stack.sh
source "$(dirname "$0")/stack.sh"

usage() {
  cat <<'TEXT'
usage: scripts/rollback.sh [OPTION…] [VERSION]

Makes VERSION live again. Without VERSION it lists what was live and what there is.

  --stack NAME     the stack whose site it is (site); S3SYNC_SITE, when set, goes before it
  --region REGION  the region, when your AWS settings do not say
  --reason TEXT    why; shown in the history
TEXT
}

main() {
  local version="" reason=""
  while (($# > 0)); do
    case $1 in
      --stack) stack=$(value "$@"); shift 2 ;;
      --region) region=$(value "$@"); shift 2 ;;
      --reason) reason=$(value "$@"); shift 2 ;;
      --help) usage; exit ;;
      -*) fail "what is $1?" "scripts/rollback.sh --help" 2 ;;
      *)
        [[ -n $1 ]] || fail "the version is empty" "without one, leave it out" 2
        [[ -z $version ]] || fail "one version, not $version and $1" "" 2
        version=$1
        shift
        ;;
    esac
  done
  prepare
  S3SYNC_SITE=${S3SYNC_SITE:-$(output Site)}
  export S3SYNC_SITE
  [[ -n $S3SYNC_SITE ]] || fail "stack $stack has no site" "scripts/deploy.sh makes one; is it --stack $stack?"
  if [[ -z $version ]]; then
    say "live before, newest first"
    s3sync history
    say "all releases"
    s3sync releases
    say "one of them, live again: scripts/rollback.sh --stack $stack --region $region VERSION"
  else
    s3sync rollback "$version" ${reason:+--reason "$reason"}
  fi
}

main "$@"
