# Read by the scripts beside it: what they say, what they ask, and what they know of the stack.
# shellcheck shell=bash

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "error: bash 4.4 or newer is needed, this is $BASH_VERSION" >&2
  exit 2
fi
shopt -s inherit_errexit # what fails within $( ) fails outside

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$PATH:$root/.venv/bin # an `aws` of your own comes first: it may know ways to log in
s3sync() { "$root/.venv/bin/s3sync" "$@"; } # this checkout's, whatever else is installed
export AWS_PAGER= # version 2 of the aws command would wait for somebody to leave its pager
stack=site
region=
state=
yes=

say() { printf '\n== %s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$1" >&2
  [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2
  exit "${3:-1}"
}

# The value of an option, or an error that names it.
value() {
  [[ $# -gt 1 && -n $2 ]] || fail "$1 needs a value" "" 2
  printf '%s' "$2"
}

# Returns unless the answer is no.
ask() {
  [[ -z $yes ]] || return 0
  [[ -t 0 ]] || fail "nobody is here to answer: $1" "--yes answers for you" 2
  local answer
  read -r -p "$1 [y/N] " answer
  [[ $answer == [yY]* ]] || fail "stopped, nothing of this was done"
}

# Makes the commands of this project, and sees that AWS knows who asks, and in which region.
prepare() {
  make --directory "$root" --quiet venv >&2
  region=${region:-${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}}
  [[ -n $region ]] || fail "no region is set" "--region eu-central-1, for example" 2
  export AWS_REGION=$region AWS_DEFAULT_REGION=$region
  local account
  account=$(aws sts get-caller-identity --query Account --output text) ||
    fail "AWS does not know who you are" "log in, or set AWS_PROFILE"
  say "stack $stack in account $account, $region"
}

# What CloudFormation says the stack is; "" when there is none.
status() {
  local found problem
  problem=$(mktemp)
  if found=$(aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].StackStatus' \
    --output text 2>"$problem"); then
    rm "$problem"
    printf '%s' "$found"
    return
  fi
  found=$(cat "$problem")
  rm "$problem"
  [[ $found == *"does not exist"* ]] || fail "stack $stack cannot be asked about: $found"
}

# Sets `state` to the stack's status, where one that was only proposed is none yet.
look() {
  state=$(status)
  [[ $state != REVIEW_IN_PROGRESS ]] || state=
}

# Sets `state` to what the stack is when nothing happens to it any more. The aws command's own waiters look every
# 30 s, for an hour too.
await_stack() {
  local deadline=$((SECONDS + 3600))
  state=$(status)
  while [[ $state == *_IN_PROGRESS ]]; do
    ((SECONDS < deadline)) || fail "stack $stack is still $state after an hour"
    sleep 3
    state=$(status)
  done
}

# An output of the stack; "" when it has none of this name.
output() {
  local found
  found=$(aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue") ||
    fail "stack $stack cannot be asked about, see above" "scripts/deploy.sh makes one; is it --stack $stack?"
  [[ $found == None ]] || printf '%s' "$found"
}
