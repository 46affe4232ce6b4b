#!/usr/bin/env bash
# Takes a stack away, with its buckets and every release in them. What it deletes is gone.
set -euo pipefail
# shellcheck source=scripts/stack.sh
source "$(dirname "$0")/stack.sh"

usage() {
  cat <<'TEXT'
usage: scripts/destroy.sh [OPTION…]

Deletes the stack, then empties and deletes its two buckets: releases and access logs, all versions of them.
Asks for the stack's name before. It can be run again when it was interrupted: name the buckets that are left.

  --stack NAME     the stack's name (site)
  --region REGION  the region, when your AWS settings do not say
  --bucket NAME    a bucket to delete that a stack left behind; may be given more than once
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
  local bucket
  look
  if [[ -n $state ]]; then
    bucket=$(output SiteBucket)
    buckets+=(${bucket:+"$bucket"})
    bucket=$(output LogBucket)
    buckets+=(${bucket:+"$bucket"})
  elif ((${#buckets[@]} == 0)); then
    fail "there is no stack $stack"
  fi
  confirm
  if [[ -n $state ]]; then
    say "delete stack $stack"
    aws cloudformation delete-stack --stack-name "$stack"
    await_stack
    [[ -z $state ]] || fail "stack $stack is $state" "its events in the CloudFormation console say why; then run this again"
  fi
  for bucket in "${buckets[@]}"; do
    say "empty and delete bucket $bucket"
    empty "$bucket"
    aws s3api delete-bucket --bucket "$bucket" ||
      fail "$bucket is not empty" "a load balancer writes its last logs minutes later: scripts/destroy.sh --bucket $bucket"
  done
  say "gone; GitHub's identity provider, where the stack had made it, stays for others in the account"
}

# A name typed in full is no slip of a finger.
confirm() {
  [[ -z $yes ]] || return 0
  [[ -t 0 ]] || fail "nobody is here to answer" "--yes answers for you" 2
  printf 'This deletes the stack %s and all that is in: %s\n' "$stack" "${buckets[*]}" >&2
  local answer
  read -r -p "Type the name of the stack to go on: " answer
  [[ $answer == "$stack" ]] || fail "stopped, nothing was deleted"
}

# Every version of every object, a thousand at a time, which is what one request takes.
empty() {
  local doomed refused
  while true; do
    doomed=$(aws s3api list-object-versions --bucket "$1" --max-items 1000 --output json --query \
      '{Objects: [Versions, DeleteMarkers][] | [?Key].{Key: Key, VersionId: VersionId}}')
    [[ $doomed == *'"Key"'* ]] || return 0
    refused=$(aws s3api delete-objects --bucket "$1" --delete file:///dev/stdin --output text \
      --query 'Errors[0].[Key, Message]' <<<"$doomed")
    [[ $refused == None ]] || fail "$1: $refused"
  done
}

main "$@"
