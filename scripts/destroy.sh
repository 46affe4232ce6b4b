#!/usr/bin/env bash
# Takes a stack away, with its buckets and every release in them. What it deletes is gone.
set -euo pipefail
# shellcheck source=scripts/stack.sh
source "$(dirname "$0")/stack.sh"

usage() {
  cat <<'TEXT'
usage: scripts/destroy.sh [OPTION…]

Deletes the stack, then empties and deletes its two buckets: releases and access logs, all versions of them.
Asks for the stack's name before.

  --stack NAME     the stack's name (site)
  --region REGION  the region, when your AWS settings do not say
  --bucket NAME    only this bucket, which a stack left behind, and no stack; may be given more than once
  --yes            do not ask
TEXT
}

buckets=()

main() {
  while (($# > 0)); do
    case $1 in
      --stack) stack=$(value "$@"); shift 2 ;;
      --region) region=$(value "$@"); shift 2 ;;
      --bucket) buckets+=("$(value "$@")"); shift 2 ;;
      --yes) yes=1; shift ;;
      --help) usage; exit ;;
      *) fail "what is $1?" "scripts/destroy.sh --help" 2 ;;
    esac
  done
  prepare
  if ((${#buckets[@]} == 0)); then
    state=$(status)
    [[ -n $state ]] || fail "there is no stack $stack"
    find_buckets
    tell_how_to_go_on
    confirm "the stack $stack and all that is in ${buckets[*]}" "$stack"
    delete_stack
  else
    confirm "all that is in ${buckets[*]}" "${buckets[0]}"
  fi
  local bucket
  for bucket in "${buckets[@]}"; do
    say "empty and delete bucket $bucket"
    empty_and_delete "$bucket"
  done
  say "gone; GitHub's identity provider, where the stack had made it, stays for others in the account"
}

# Those that are there; after a failed creation it is one, and of a stack that was only proposed none.
find_buckets() {
  local found
  found=$(aws cloudformation list-stack-resources --stack-name "$stack" --output text --query "StackResourceSummaries[?
    ResourceType=='AWS::S3::Bucket' && ResourceStatus!='DELETE_COMPLETE' && PhysicalResourceId].PhysicalResourceId")
  read -r -d '' -a buckets <<<"$found" || true # a line for each page of the answer
}

# A stack that is gone cannot be asked what it left.
tell_how_to_go_on() {
  ((${#buckets[@]} == 0)) || echo "when this is interrupted: scripts/destroy.sh --region $region ${buckets[*]/#/--bucket }" >&2
}

# A name typed in full is no slip of a finger.
confirm() {
  [[ -z $yes ]] || return 0
  [[ -t 0 ]] || fail "nobody is here to answer" "--yes answers for you" 2
  local answer
  printf 'This deletes %s.\n' "$1" >&2
  read -r -p "Type $2 to go on: " answer
  [[ $answer == "$2" ]] || fail "stopped, nothing was deleted"
}

delete_stack() {
  say "delete stack $stack"
  aws cloudformation delete-stack --stack-name "$stack"
  await_stack
  [[ -z $state ]] || fail "stack $stack is $state" \
    "its events in the CloudFormation console say why; buckets that are left then: --bucket"
}

# More than once: a load balancer may write its last logs meanwhile.
empty_and_delete() {
  local attempt
  for attempt in 1 2 3; do
    empty "$1"
    ! aws s3api delete-bucket --bucket "$1" || return 0
    ((attempt == 3)) || sleep 20
  done
  fail "$1 is not empty" "something still writes there: scripts/destroy.sh --region $region --bucket $1"
}

# Every version of every object, a thousand at a time, which is what one request takes.
empty() {
  local doomed refused
  while true; do
    doomed=$(aws s3api list-object-versions --bucket "$1" --no-paginate --output json --query \
      '{Objects: [Versions, DeleteMarkers][] | [?Key].{Key: Key, VersionId: VersionId}}')
    [[ $doomed == *'"Key"'* ]] || return 0
    refused=$(aws s3api delete-objects --bucket "$1" --delete file:///dev/stdin --output text \
      --query 'Errors[0].[Key, Message]' <<<"$doomed")
    [[ $refused == None ]] || fail "$1: $refused"
  done
}

main "$@"
