#!/usr/bin/env bash
# From a clean checkout to a running site on AWS, and again for every later change of template or agent.
set -euo pipefail
# shellcheck source=scripts/stack.sh
source "$(dirname "$0")/stack.sh"

usage() {
  cat <<'TEXT'
usage: scripts/deploy.sh [OPTION…] [PARAMETER=VALUE…]

Makes or changes the stack of infra/cloudformation.yaml: bundle → stack without instances → upload of the
bundle → first release → instances → wait until they are healthy. Shows every change and asks before it is
made. It can be run again at any time, also after a failure: what is done already is left alone.

  --stack NAME     the stack's name (site)
  --region REGION  the region, when your AWS settings do not say
  --site-dir DIR   the folder to publish while nothing is live yet (examples/site)
  --wait SECONDS   how long healthy instances are waited for at the end; 0 does not wait (900)
  --dry-run        show what would change in the stack, and change nothing
  --yes            do not ask

PARAMETER=VALUE sets a parameter of the template; those that are not named keep the value they have.
TEXT
}

site_dir=$root/examples/site
wait_seconds=900
dry_run=
parameters=()
declare -A default current
second_stack_hint="make a second stack and lead the name there"
unhealthy_hint="docs/runbook.md; an instance says why in /var/log/cloud-init-output.log and its console output"

read_arguments() {
  while (($# > 0)); do
    case $1 in
      --stack) stack=$(value "$@"); shift 2 ;;
      --region) region=$(value "$@"); shift 2 ;;
      --site-dir) site_dir=$(value "$@"); shift 2 ;;
      --wait) wait_seconds=$(value "$@"); shift 2 ;;
      --dry-run) dry_run=1; shift ;;
      --yes) yes=1; shift ;;
      --help) usage; exit ;;
      [A-Z]*=*) parameters+=("$1"); shift ;;
      *) fail "what is $1?" "scripts/deploy.sh --help" 2 ;;
    esac
  done
  [[ -d $site_dir ]] || fail "there is no folder $site_dir" "name yours: --site-dir public/" 2
  [[ $wait_seconds =~ ^[0-9]+$ ]] || fail "--wait takes seconds, not $wait_seconds" "" 2
}

main() {
  read_arguments "$@"
  prepare
  clear_failed_creation
  read_parameters
  refuse_unknown_parameters
  refuse_unsafe_changes
  find_identity_provider
  local bundle sha256 egress
  bundle=$(make_bundle)
  sha256=$(sha256sum "$bundle" | cut -d ' ' -f 1)

  if [[ -n $dry_run ]]; then
    change "AgentBundle=${bundle##*/}" "AgentBundleSha256=$sha256"
    return
  fi
  if [[ -z $state ]]; then
    s3sync check -- "$site_dir" >&2
    say "make the stack, without instances"
    change AgentBundle= AgentBundleSha256=
  fi
  S3SYNC_SITE=$(output Site)
  export S3SYNC_SITE
  say "upload the bundle"
  s3sync bundle --upload "$bundle"
  publish_first_release
  say "bring the stack up to date, with instances"
  change "AgentBundle=${bundle##*/}" "AgentBundleSha256=$sha256"
  egress=$(parameter Egress)
  [[ $egress != none || -z ${current[AgentBundle]-} ]] || refresh_instances
  await_healthy_instances
  say "$(output SiteUrl)"
}

# Nothing of what is left of a failed creation was ever in use.
clear_failed_creation() {
  look
  case $state in
    ROLLBACK_COMPLETE)
      [[ -z $dry_run ]] || fail "the creation of stack $stack has failed before" "it is tried again without --dry-run"
      ask "The creation of stack $stack has failed before. Delete what is left of it?"
      name_log_bucket
      aws cloudformation delete-stack --stack-name "$stack"
      await_stack
      [[ -z $state ]] || fail "stack $stack is $state" "its events in the CloudFormation console say why"
      ;;
    *_IN_PROGRESS) fail "stack $stack is being changed by somebody" "try again when that is over" ;;
    *_FAILED) fail "stack $stack is $state" "its events in the CloudFormation console say why" ;;
  esac
}

# The balancer has written into it, so it outlives its stack.
name_log_bucket() {
  local bucket
  bucket=$(aws cloudformation describe-stack-resource --stack-name "$stack" --logical-resource-id LogBucket \
    --query StackResourceDetail.PhysicalResourceId --output text 2>/dev/null) || return 0
  echo "its log bucket is left: scripts/destroy.sh --bucket $bucket" >&2
}

# Sets `default`, the template's, and `current`, the stack's.
read_parameters() {
  local text name value
  text=$(aws cloudformation get-template-summary --template-body "file://$root/infra/cloudformation.yaml" \
    --query 'Parameters[].[ParameterKey, DefaultValue]' --output text)
  while IFS=$'\t' read -r name value; do
    default[$name]=$value
  done <<<"$text"
  [[ -n $state ]] || return 0
  text=$(aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query 'Stacks[0].Parameters[].[ParameterKey, ParameterValue]')
  while IFS=$'\t' read -r name value; do
    [[ -z $name ]] || current[$name]=$value
  done <<<"$text"
}

# The aws command leaves out what a template does not know, and takes the last of two.
refuse_unknown_parameters() {
  local given name seen=" "
  for given in "${parameters[@]}"; do
    name=${given%%=*}
    [[ -n ${default[$name]+known} ]] || fail "the template has no parameter $name" "infra/cloudformation.yaml" 2
    [[ $name != AgentBundle* ]] || fail "$name is set here: this checkout's bundle is deployed" "" 2
    [[ $seen != *" $name "* ]] || fail "$name is given twice" "" 2
    seen+="$name "
  done
}

# A parameter's value: given now, or the stack's, or the template's where the stack's has none of this name yet.
parameter() {
  local given
  for given in "${parameters[@]}"; do
    [[ $given == "$1="* ]] || continue
    printf '%s' "${given#*=}"
    return
  done
  printf '%s' "${current[$1]-${default[$1]}}"
}

# What CloudFormation would do, and the site would not survive.
refuse_unsafe_changes() {
  [[ -n $state ]] || return 0
  local name given
  for name in BucketName KmsKeyArn; do # what is stored already stays in the one, and under the other
    given=$(parameter "$name")
    [[ $given == "${current[$name]-}" ]] ||
      fail "$name of a stack cannot be changed; it is '${current[$name]-}'" "$second_stack_hint"
  done
  given=$(parameter Egress)
  [[ $given != none || ${current[Egress]-} == none || -z ${current[AgentBundle]-} ]] ||
    fail "Egress cannot become none: nobody would wait for the new instances" "$second_stack_hint"
}

# An account has GitHub's identity provider once. Where it has one that is not this stack's, it is used.
find_identity_provider() {
  local repository given found own=
  repository=$(parameter GitHubRepository)
  given=$(parameter GitHubOidcProviderArn)
  [[ -n $repository && -z $given ]] || return 0
  found=$(aws iam list-open-id-connect-providers --output text --query \
    "OpenIDConnectProviderList[?ends_with(Arn, ':oidc-provider/token.actions.githubusercontent.com')].Arn")
  [[ -z $state ]] || own=$(aws cloudformation list-stack-resources --stack-name "$stack" --output text \
    --query "StackResourceSummaries[?LogicalResourceId=='OidcProvider'].PhysicalResourceId")
  [[ -z $found || $found == "$own" ]] || parameters+=("GitHubOidcProviderArn=$found")
}

make_bundle() {
  local arch python
  arch=$(parameter Architecture)
  python=$(parameter AgentPython)
  say "make the bundle"
  make --directory "$root" --quiet dist >&2
  s3sync bundle --wheel "$root"/dist/*.whl --out "$root/dist" --python "$python" --arch "${arch/arm64/aarch64}"
}

# Shows what would change in the stack, asks, changes it and waits for the end.
change() {
  local kind=CREATE proposed set
  [[ -z $state ]] || kind=UPDATE
  proposed=$(aws cloudformation deploy --stack-name "$stack" --template-file "$root/infra/cloudformation.yaml" \
    --capabilities CAPABILITY_IAM --no-execute-changeset --no-fail-on-empty-changeset \
    --parameter-overrides "${parameters[@]}" "$@")
  set=$(grep --only-matching 'arn:[^ ]*:changeSet/[^ ]*' <<<"$proposed" || true)
  if [[ -z $set ]]; then
    echo "nothing to change" >&2
    return
  fi
  aws cloudformation describe-change-set --change-set-name "$set" --output table --query \
    'Changes[].ResourceChange.{"1 Action":Action,"2 Resource":LogicalResourceId,"3 Replaced":Replacement}' >&2
  if [[ -n $dry_run ]]; then
    aws cloudformation delete-change-set --change-set-name "$set"
    return
  fi
  ask "Make these changes?"
  aws cloudformation execute-change-set --change-set-name "$set"
  await_stack
  [[ $state == "${kind}_COMPLETE" ]] || explain
}

# The failures of this change, for whoever has no console open. Events come newest first.
explain() {
  aws cloudformation describe-stack-events --stack-name "$stack" --output text \
    --query 'StackEvents[].[ResourceStatus, LogicalResourceId, ResourceStatusReason]' |
    awk -F '\t' '$3 == "User Initiated" {exit} $1 ~ /FAILED/ {print $2 ": " $3}' >&2 || true
  fail "stack $stack is $state" "the cause is in the last of these lines; docs/runbook.md#the-stacks-update-failed"
}

publish_first_release() {
  local pointer version
  pointer=$(s3sync status --json)
  [[ $pointer == null ]] || return 0
  say "publish and promote the first release"
  version=$(s3sync publish -- "$site_dir")
  s3sync promote "$version"
}

# Without egress CloudFormation hears no signals, so instances are replaced here; those that are up to date are
# not. When too few have been healthy for half a minute, no more are replaced.
refresh_instances() {
  local group refresh told wanted healthy all_were="" low=0 deadline=$((SECONDS + 7200))
  group=$(output AutoScalingGroupName)
  wanted=$(parameter MinInstances)
  say "replace instances that are not up to date"
  refresh=$(refresh_under_way "$group")
  [[ -n $refresh ]] || refresh=$(aws autoscaling start-instance-refresh --auto-scaling-group-name "$group" \
    --query InstanceRefreshId --output text \
    --preferences MinHealthyPercentage=100,MaxHealthyPercentage=150,InstanceWarmup=300,SkipMatching=true)
  while ((SECONDS < deadline)); do
    told=$(aws autoscaling describe-instance-refreshes --auto-scaling-group-name "$group" --output text \
      --instance-refresh-ids "$refresh" --query 'InstanceRefreshes[0].[Status,StatusReason]')
    case $told in
      Successful*) return ;;
      Pending* | InProgress* | Baking*) ;;
      *) fail "the instances were not replaced: $told" "scripts/deploy.sh tries again" ;;
    esac
    healthy=$(healthy_instances)
    if ((healthy >= wanted)); then
      all_were=1 low=0
    elif [[ -n $all_were ]]; then # else it may be this that heals them
      low=$((low + 1))
    fi
    if ((low == 3)); then
      aws autoscaling cancel-instance-refresh --auto-scaling-group-name "$group" >/dev/null
      fail "only $healthy of $wanted instances are healthy; no more are replaced" "$unhealthy_hint"
    fi
    sleep 10
  done
  fail "the instances were not replaced within two hours: $told"
}

# The one of an earlier run that was interrupted; "" for none.
refresh_under_way() {
  local found
  # The newest are on the first page; of further ones each would add a line of its own.
  found=$(aws autoscaling describe-instance-refreshes --auto-scaling-group-name "$1" --no-paginate --output text --query \
    "InstanceRefreshes[?contains(['Pending', 'InProgress', 'Baking'], Status)] | [0].InstanceRefreshId")
  [[ $found == None ]] || printf '%s' "$found"
}

healthy_instances() {
  local group
  group=$(output TargetGroupArn)
  aws elbv2 describe-target-health --target-group-arn "$group" --output text \
    --query "length(TargetHealthDescriptions[?TargetHealth.State=='healthy'])"
}

await_healthy_instances() {
  ((wait_seconds > 0)) || return 0
  local wanted healthy deadline=$((SECONDS + wait_seconds))
  wanted=$(parameter MinInstances)
  say "wait for $wanted healthy instances"
  while ((SECONDS < deadline)); do
    healthy=$(healthy_instances)
    ((healthy < wanted)) || return 0
    sleep 5
  done
  fail "after $wait_seconds s only $healthy of $wanted instances are healthy" "$unhealthy_hint"
}

main "$@"
