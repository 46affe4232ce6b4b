#!/usr/bin/env bash
# Proves on a real account what docs/aws.md only believes: a stack of its own, every claim asked, all of it gone.
set -euo pipefail
# shellcheck source=scripts/stack.sh
source "$(dirname "$0")/stack.sh"

usage() {
  cat <<'TEXT'
usage: scripts/prove-on-aws.sh [OPTION…] [PARAMETER=VALUE…]

Deploys a stack of its own, publishes, promotes, rolls back, replaces and updates instances, asks every claim of
docs/aws.md, and destroys the stack again, also when something failed. Prints `proved`, `FAILED` or `not asked` for
each claim, and a summary to paste into an issue. Ends with 1 when anything failed.

It takes one to two hours and costs about 1 US dollar: a load balancer, a NAT gateway and three small instances.

  --stack NAME     the stack's name (s3sync-proof); there must be none of this name
  --region REGION  the region, when your AWS settings do not say
  --keep           leave the stack, to look at it; `scripts/destroy.sh --stack NAME` ends the costs
  --yes            do not ask

PARAMETER=VALUE sets a parameter of the template. Egress=endpoints or Egress=none prove the claims about those,
and leave out what needs a shell on the instances, or signals.
TEXT
}

stack=s3sync-proof
keep=
parameters=()
counted=(0 0 0) # proved, failed, not asked
summary=
work=
started=

# ------------------------------------------------------------------------------------------ claims and waits

# claim STEP WORDS COMMAND…: the claim is proved when the command succeeds. STEP is how docs/aws.md calls it.
claim() {
  local step=$1 words=$2 said code
  shift 2
  set +e # where it stands in a condition, a command would go on after a failure
  said=$(
    set -e
    "$@" 2>&1
  )
  code=$?
  set -e
  if ((code == 0)); then
    record proved "$step" "$words"
  else
    record FAILED "$step" "$words"
    tail -n 5 <<<"$said" | cut -c 1-200 | sed 's/^/      /' >&2
  fi
}

# not_asked STEP WHY: this run cannot ask it.
not_asked() { record "not asked" "$1" "$2"; }

record() {
  case $1 in
    proved) counted[0]=$((counted[0] + 1)) ;;
    FAILED) counted[1]=$((counted[1] + 1)) ;;
    *) counted[2]=$((counted[2] + 1)) ;;
  esac
  printf '%-9s  %-24s  %s\n' "$1" "$2" "$3" >&2
  summary+="| $1 | \`$2\` | $3 |"$'\n'
}

# within SECONDS COMMAND…: until it succeeds. The command is asked again every five seconds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 5
  done
}

same() { [[ $1 == "$2" ]] || { printf 'wanted %s, found %s\n' "$2" "$1"; return 1; }; }
holds() { [[ $1 == *"$2"* ]] || { printf 'wanted something with %s, found %s\n' "$2" "$1"; return 1; }; }

# refused TEXT COMMAND…: it fails, and says TEXT.
refused() {
  local text=$1 said
  shift
  if said=$("$@" 2>&1); then
    printf 'was not refused: %s\n' "$*"
    return 1
  fi
  holds "$said" "$text"
}

# Runs a line of shell as root on an instance and prints what it says; fails as it fails. Three minutes at most.
on_instance() {
  local instance=$1 line=$2 command end=$((SECONDS + 180)) state=
  command=$(aws ssm send-command --document-name AWS-RunShellScript --instance-ids "$instance" \
    --parameters "$("$root/.venv/bin/python" -c 'import json, sys
print(json.dumps({"commands": [sys.argv[1]], "executionTimeout": ["120"]}))' "$line")" \
    --query Command.CommandId --output text) || return 1
  while ((SECONDS < end)); do
    state=$(aws ssm get-command-invocation --command-id "$command" --instance-id "$instance" \
      --query Status --output text 2>/dev/null || true) # it does not know the command at once
    case $state in
      Success | Failed | Cancelled | TimedOut) break ;;
    esac
    sleep 2
  done
  aws ssm get-command-invocation --command-id "$command" --instance-id "$instance" \
    --query '[StandardOutputContent, StandardErrorContent]' --output text
  [[ $state == Success ]]
}

says_on_instance() { holds "$(on_instance "$1" "$2")" "$3"; }

# ----------------------------------------------------------------------------------------- what the stack is

resource() {
  aws cloudformation describe-stack-resources --stack-name "$stack" --output text \
    --query "StackResources[?LogicalResourceId=='$1'].PhysicalResourceId"
}

instances() {
  aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$(output AutoScalingGroupName)" \
    --query "AutoScalingGroups[0].Instances[?LifecycleState=='InService'].InstanceId" --output text | tr '\t' '\n'
}

one_instance() { instances | sed -n 1p; }

# described INSTANCE QUERY
described() { aws ec2 describe-instances --instance-ids "$1" --query "Reservations[0].Instances[0].$2" --output text; }

health() {
  aws elbv2 describe-target-health --target-group-arn "$(output TargetGroupArn)" --output text \
    --query "TargetHealthDescriptions[?Target.Id=='$1'].TargetHealth.State"
}

# healthy COUNT
healthy() {
  local count
  count=$(aws elbv2 describe-target-health --target-group-arn "$(output TargetGroupArn)" --output text \
    --query "length(TargetHealthDescriptions[?TargetHealth.State=='healthy'])")
  ((count >= $1))
}

is_in_health() { [[ $(health "$1") == "$2" ]]; }
fetch() { curl --fail --silent --show-error --max-time 10 "$(output SiteUrl)$1"; }
answers() { [[ $(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 "$(output SiteUrl)$1") == "$2" ]]; }
serves() { [[ $(fetch "$1") == "$2" ]]; }
egress() { [[ $chosen_egress == "$1" ]]; }
deploy() { "$root/scripts/deploy.sh" --stack "$stack" --yes "$@" >&2; }

# small_template RESOURCES: a stack that costs nothing, for a question to CloudFormation.
small_template() { printf 'Conditions:\n  Never: !Equals [a, b]\nResources:\n%s\n' "$1"; }

# Asks CloudFormation to plan a small stack; prints the plan's state, or why there is none. Nothing is made.
planned() {
  local name=$stack-question state=
  small_template "$1" >"$work/question.yaml"
  aws cloudformation create-change-set --stack-name "$name" --change-set-name question --change-set-type CREATE \
    --template-body "file://$work/question.yaml" >/dev/null || return 0
  local end=$((SECONDS + 120))
  while ((SECONDS < end)); do
    state=$(aws cloudformation describe-change-set --stack-name "$name" --change-set-name question \
      --query '[Status, StatusReason]' --output text)
    [[ $state == CREATE_PENDING* || $state == CREATE_IN_PROGRESS* ]] || break
    sleep 2
  done
  aws cloudformation delete-stack --stack-name "$name"
  aws cloudformation wait stack-delete-complete --stack-name "$name"
  printf '%s\n' "$state"
}

# --------------------------------------------------------------------------------------------------- proofs

user_data_limit() {
  local size
  for size in 16384 16385; do
    head -c "$size" /dev/zero | tr '\0' '#' | base64 --wrap=0 >"$work/user-data"
    printf '{"UserData": "%s"}' "$(<"$work/user-data")" >"$work/launch-template.json"
    if ((size == 16384)); then
      aws ec2 create-launch-template --launch-template-name "$stack-limit" \
        --launch-template-data "file://$work/launch-template.json"
      aws ec2 delete-launch-template --launch-template-name "$stack-limit"
    else
      refused 16384 aws ec2 create-launch-template --launch-template-name "$stack-limit" \
        --launch-template-data "file://$work/launch-template.json" || {
        aws ec2 delete-launch-template --launch-template-name "$stack-limit"
        return 1
      }
    fi
  done
}

packages() {
  says_on_instance "$1" "python3 --version; python3.12 --version; rpm -q nginx --queryformat '%{VENDOR}'" "Python 3.9"
  says_on_instance "$1" "rpm -q python3.12 nginx --queryformat '%{VENDOR} '" "Amazon"
}

# Installed before the machine was started, so with the image.
aws_command() {
  # shellcheck disable=SC2016 # for the shell over there
  on_instance "$1" '[ "$(rpm -q awscli-2 --queryformat "%{INSTALLTIME}")" -lt "$(date -d "$(uptime -s)" +%s)" ]'
}

selinux() {
  says_on_instance "$1" getenforce Permissive
  # shellcheck disable=SC2016 # for the shell over there
  on_instance "$1" 'setenforce 1; /usr/local/bin/s3sync-agent setup; code=1
    for second in $(seq 60); do curl -sf http://127.0.0.1/healthz && { code=0; break; }; sleep 1; done
    setenforce 0; exit $code'
}

imds() { same "$(described "$1" MetadataOptions.HttpTokens)" required && is_in_health "$1" healthy; }
boot_log() { says_on_instance "$1" 'tail -n 20 /var/log/cloud-init-output.log' "s3sync: success"; }

console_output() {
  holds "$(aws ec2 get-console-output --latest --instance-id "$1" --output text)" "s3sync: success" >/dev/null
}

nginx_modules() {
  same "$(on_instance "$1" 'nginx -V 2>&1 | grep -oE "with-http_(gzip_static|realip)_module" | sort -u | wc -l' | tr -dc 0-9)" 2
}

nginx_stop() {
  says_on_instance "$1" 'systemctl show -p KillSignal -p KillMode -p TimeoutStopUSec -p After nginx' 'KillSignal=3'
  says_on_instance "$1" 'systemctl show -p KillMode nginx' mixed
  says_on_instance "$1" 'systemctl show -p TimeoutStopUSec nginx' 30s
  says_on_instance "$1" 'systemctl show -p After nginx' network-online.target
}

forwarded_for() {
  local mark=$RANDOM$RANDOM instance line=
  curl --silent --output /dev/null --max-time 10 --header 'X-Forwarded-For: 6.6.6.6' "$(output SiteUrl)?$mark"
  for instance in $(instances); do
    line+=$(on_instance "$instance" "grep -F $mark /var/log/nginx/access.log || true")
  done
  holds "$line" '"forwarded_for":"6.6.6.6, '
  [[ $line != *'"client":"6.6.6.6"'* ]]
}

health_check_host() {
  # shellcheck disable=SC2016 # for the shell over there
  says_on_instance "$1" 'cp /etc/nginx/conf.d/s3sync.conf /root/s3sync.conf
    echo "log_format proof \"host=\$http_host\";" >/etc/nginx/conf.d/a-proof.conf
    sed -i "/location = .healthz/,/access_log/ s|access_log off|access_log /var/log/nginx/proof.log proof|" \
      /etc/nginx/conf.d/s3sync.conf
    nginx -s reload; sleep 25; cat /var/log/nginx/proof.log
    rm /etc/nginx/conf.d/a-proof.conf; mv /root/s3sync.conf /etc/nginx/conf.d/s3sync.conf; nginx -s reload' \
    "host=$(described "$1" PrivateIpAddress)"
}

region_from_metadata() {
  same "$(on_instance "$1" "/opt/s3sync-agent/current/bin/python -c 'import botocore.session, botocore.utils
print(botocore.utils.IMDSRegionProvider(botocore.session.Session()).provide())'" | tr -dc 'a-z0-9-')" "$region"
}

namespace() { printf 's3sync-agent/%s' "$stack"; }
put_metric() { aws cloudwatch put-metric-data --namespace "$1" --metric-name Proof --value 1 --dimensions "Name=Group,Value=$2"; }

metric_names() {
  aws cloudwatch list-metrics --namespace "$(namespace)" --query 'Metrics[].MetricName' --output text | tr '\t' '\n'
}

metrics_arrive() {
  local name missing
  missing=$(
    metric_names | sort -u >"$work/metrics"
    for name in Alive Healthy Stale BehindSeconds Sequence Polls Stages Activations; do
      grep -qx "$name" "$work/metrics" || printf '%s ' "$name"
    done
  )
  [[ -z $missing ]] || { printf 'missing: %s\n' "$missing"; return 1; }
}

one_metric_for_all() { same "$(metric_names | wc -l)" "$(metric_names | sort -u | wc -l)"; }

namespace_length() {
  put_metric "$(printf 'n%.0s' {1..255})" proof
  refused amespace put_metric "$(printf 'n%.0s' {1..256})" proof
}

group_length() {
  put_metric s3sync-proof "$(printf 'g%.0s' {1..1024})"
  refused Dimensions put_metric s3sync-proof "$(printf 'g%.0s' {1..1025})"
}

# Of the last five full minutes, which are two minutes old.
sample_count() {
  local end=$(($(date +%s) / 60 * 60 - 120)) samples count
  count=$(instances | wc -l)
  samples=$(aws cloudwatch get-metric-statistics --namespace "$(namespace)" --metric-name Alive \
    --dimensions "Name=Group,Value=$(output SiteBucket)" --statistics SampleCount --period 60 --output text \
    --start-time "$((end - 300))" --end-time "$end" --query 'sum(Datapoints[].SampleCount)')
  samples=${samples%.*}
  ((samples >= 5 * count - count && samples <= 5 * count + count)) || { echo "$samples of $count agents"; return 1; }
}

alarm_is() {
  [[ $(aws cloudwatch describe-alarms --alarm-names "$(resource "$1")" --query 'MetricAlarms[0].StateValue' --output text) == "$2" ]]
}

missing_breaches() {
  local instance code=0
  for instance in $(instances); do on_instance "$instance" 'systemctl stop s3sync-agent'; done
  within 900 alarm_is AgentsSilent ALARM || code=1
  answers "" 200 || code=1 # nobody needs the agent for a site that is served
  for instance in $(instances); do on_instance "$instance" 'systemctl start s3sync-agent'; done
  return $code
}

alarm_delivers() { # STEP-OF-HISTORY ALARM
  aws cloudwatch set-alarm-state --alarm-name "$2" --state-value ALARM --state-reason proof
  within 120 history_says "$2" "$1"
}

history_says() {
  holds "$(aws cloudwatch describe-alarm-history --alarm-name "$1" --history-item-type Action \
    --query 'AlarmHistoryItems[].HistorySummary' --output text)" "$2" >/dev/null
}

aws_managed_topic_key() {
  local topic code=0
  topic=$(aws sns create-topic --name "$stack-encrypted" --attributes KmsMasterKeyId=alias/aws/sns --query TopicArn --output text)
  aws cloudwatch put-metric-alarm --alarm-name "$stack-encrypted" --namespace s3sync-proof --metric-name Proof \
    --statistic Sum --period 60 --evaluation-periods 1 --threshold 1e9 --comparison-operator GreaterThanThreshold \
    --alarm-actions "$topic" || code=1
  alarm_delivers Failed "$stack-encrypted" || code=1
  aws cloudwatch delete-alarms --alarm-names "$stack-encrypted"
  aws sns delete-topic --topic-arn "$topic"
  return $code
}

namespace_condition() {
  on_instance "$1" "aws cloudwatch put-metric-data --region $region --namespace $(namespace) --metric-name Proof --value 1"
  on_instance "$1" "aws cloudwatch put-metric-data --region $region --namespace other --metric-name Proof --value 1 2>&1 |
    grep AccessDenied"
}

repository_through_s3() {
  says_on_instance "$1" 'dnf --quiet --refresh makecache && dnf repoinfo amazonlinux --verbose' \
    "al2023-repos-$region-de612dc2"
}

# A bucket of AWS's that the policy does not name; without the endpoint, through the NAT gateway, it would answer.
endpoint_policy() {
  says_on_instance "$1" "curl -s -o /dev/null -w '%{http_code}' --max-time 20 https://amazon-ssm-$region.s3.$region.amazonaws.com/latest/VERSION || true" 403
}

no_public_address() { same "$(described "$1" PublicIpAddress)" None; }
signals() { holds "$(events ResourceStatusReason)" "Received SUCCESS signal with UniqueId i-"; }

events() {
  aws cloudformation describe-stack-events --stack-name "$stack" --output text --query "StackEvents[].$1"
}

missing_key() {
  local bucket
  bucket=$(output SiteBucket)
  says_on_instance "$1" "aws s3api get-object --bucket $bucket --key current/nothing /dev/null 2>&1 || true" NoSuchKey
  says_on_instance "$1" "aws s3api get-object --bucket $bucket --key agent/nothing /dev/null 2>&1 || true" AccessDenied
}

own_heartbeat() {
  local bucket name
  bucket=$(output SiteBucket)
  name=$(aws iam get-role --role-name "$(resource InstanceRole)" --query Role.RoleId --output text):$1
  on_instance "$1" "echo {} | aws s3 cp - s3://$bucket/fleet/$name.json --region $region &&
    echo {} | aws s3 cp - s3://$bucket/fleet/somebody.json --region $region 2>&1 | grep AccessDenied"
}

instance_denied() {
  local bucket
  bucket=$(output SiteBucket)
  on_instance "$1" "aws s3 rm s3://$bucket/current/.s3sync/pointer.json --region $region 2>&1 | grep AccessDenied &&
    aws s3 ls s3://$bucket/ --region $region 2>&1 | grep AccessDenied"
}

lifecycle() {
  local rules
  rules=$(aws s3api get-bucket-lifecycle-configuration --bucket "$(output SiteBucket)" --output json)
  holds "$rules" '"ExpiredObjectDeleteMarker": true'
  holds "$rules" '"Prefix": "releases/"'
}

heartbeats_expire() {
  same "$(aws s3api get-bucket-lifecycle-configuration --bucket "$(output SiteBucket)" --output text \
    --query "Rules[?ID=='heartbeats'].[NoncurrentVersionExpiration.NoncurrentDays, Expiration.Days][]" | tr '\t' ' ')" "1 7"
}

tls_only() {
  refused AccessDenied aws s3api list-objects-v2 --bucket "$(output SiteBucket)" --endpoint-url "http://s3.$region.amazonaws.com"
}

retain_except_on_create() {
  local name=$stack-retained bucket end=$((SECONDS + 600))
  small_template '  Bucket: { Type: AWS::S3::Bucket, DeletionPolicy: RetainExceptOnCreate }
  Handle: { Type: AWS::CloudFormation::WaitConditionHandle, DependsOn: Bucket }
  Fails: { Type: AWS::CloudFormation::WaitCondition, Properties: { Handle: !Ref Handle, Timeout: 1 } }' >"$work/retain.yaml"
  aws cloudformation create-stack --stack-name "$name" --template-body "file://$work/retain.yaml" >/dev/null
  until [[ $(aws cloudformation describe-stacks --stack-name "$name" --query 'Stacks[0].StackStatus' --output text) == ROLLBACK_COMPLETE ]]; do
    ((SECONDS < end)) || return 1
    sleep 5
  done
  bucket=$(aws cloudformation describe-stack-events --stack-name "$name" --output text \
    --query "StackEvents[?LogicalResourceId=='Bucket' && ResourceStatus=='CREATE_COMPLETE'].PhysicalResourceId")
  aws cloudformation delete-stack --stack-name "$name"
  refused "404" aws s3api head-bucket --bucket "$bucket"
}

log_bucket_key() {
  same "$(aws s3api get-bucket-encryption --bucket "$(output LogBucket)" --output text \
    --query 'ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm')" AES256
  logs | grep -q '\.log\.gz$'
}

logs() { aws s3api list-objects-v2 --bucket "$(output LogBucket)" --prefix balancer/AWSLogs/ --query 'Contents[].Key' --output text | tr '\t' '\n'; }
log_test_object() { logs | grep -q ELBAccessLogTestFile; }

template_size() {
  local size body
  body=$(small_template '  Topic: { Type: AWS::SNS::Topic }')
  for size in 51200 51201; do
    printf '%s\n%s' "$body" "$(head -c "$((size - ${#body} - 1))" /dev/zero | tr '\0' '#')" >"$work/size.yaml"
    if ((size == 51200)); then
      aws cloudformation validate-template --template-body "file://$work/size.yaml"
    else
      refused "51200" aws cloudformation validate-template --template-body "file://$work/size.yaml"
    fi
  done
}

# The group began after the route that its Metadata names was there.
if_in_metadata() {
  local route group
  route=$(happened PrivateDefaultRoute CREATE_COMPLETE)
  group=$(happened AutoScalingGroup CREATE_IN_PROGRESS)
  [[ -n $route && $route < $group ]] || { printf 'route %s, group %s\n' "$route" "$group"; return 1; }
}

happened() {
  aws cloudformation describe-stack-events --stack-name "$stack" --output text \
    --query "StackEvents[?LogicalResourceId=='$1' && ResourceStatus=='$2'].Timestamp" | tr '\t' '\n' | tail -n 1
}

if_in_creation_policy() {
  holds "$(planned '  Group:
    Type: AWS::AutoScaling::AutoScalingGroup
    CreationPolicy: !If [Never, { ResourceSignal: { Count: 1 } }, !Ref AWS::NoValue]
    Properties: { MinSize: 0, MaxSize: 1, AvailabilityZones: !GetAZs "" }' 2>&1)" CreationPolicy
}

depends_on_absent() {
  holds "$(planned '  Absent: { Type: AWS::SNS::Topic, Condition: Never }
  Topic: { Type: AWS::SNS::Topic, DependsOn: Absent }' 2>&1)" Absent
}

latest_image() {
  local parameter
  parameter=ImageIdArm64
  [[ $(described "$1" Architecture) == arm64 ]] || parameter=ImageIdX86
  same "$(described "$1" ImageId)" "$(aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query "Stacks[0].Parameters[?ParameterKey=='$parameter'].ResolvedValue")"
}

rolling_update() {
  local watcher before after url code=0
  url=$(output SiteUrl)
  before=$(instances | sort)
  aws autoscaling set-desired-capacity --auto-scaling-group-name "$(output AutoScalingGroupName)" --desired-capacity 3
  within 900 healthy 3
  (while true; do curl --silent --output /dev/null --write-out '%{http_code}\n' --max-time 10 "$url" || true; sleep 0.5; done) \
    >"$work/answers" &
  watcher=$!
  deploy "${parameters[@]}" VolumeSize=17 || code=1
  kill "$watcher"
  after=$(instances | sort)
  [[ -z $(comm -12 <(printf '%s\n' "$before") <(printf '%s\n' "$after")) ]] || { echo "instances stayed"; code=1; }
  if grep -qv '^200$' "$work/answers"; then
    sort "$work/answers" | uniq -c
    code=1
  fi
  return $code
}

size_stays() {
  same "$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$(output AutoScalingGroupName)" \
    --query 'AutoScalingGroups[0].DesiredCapacity' --output text)" 3
}

refresh_skips() {
  local group refresh before
  group=$(output AutoScalingGroupName)
  before=$(instances | sort)
  refresh=$(aws autoscaling start-instance-refresh --auto-scaling-group-name "$group" --query InstanceRefreshId \
    --preferences MinHealthyPercentage=100,MaxHealthyPercentage=150,InstanceWarmup=60,SkipMatching=true --output text)
  within 600 refreshed "$group" "$refresh"
  same "$(instances | sort)" "$before"
}

refreshed() {
  [[ $(aws autoscaling describe-instance-refreshes --auto-scaling-group-name "$1" --instance-refresh-ids "$2" \
    --query 'InstanceRefreshes[0].Status' --output text) == Successful ]]
}

replaced_instance() {
  local gone
  gone=$(one_instance)
  aws autoscaling terminate-instance-in-auto-scaling-group --instance-id "$gone" --no-should-decrement-desired-capacity
  within 300 is_gone "$gone"
  within 900 healthy 3
}

is_gone() { [[ $(instances) != *"$1"* ]]; }

idle_timeout() {
  same "$(aws elbv2 describe-load-balancer-attributes --load-balancer-arn "$(resource LoadBalancer)" --output text \
    --query "Attributes[?Key=='idle_timeout.timeout_seconds'].Value")" 60
  local seconds
  seconds=$(on_instance "$1" "nginx -T 2>/dev/null | sed -n 's/.*keepalive_timeout *\([0-9]*\).*/\1/p' | head -n 1" | tr -dc 0-9)
  ((${seconds:-75} > 60)) || { echo "nginx: $seconds"; return 1; }
}

# Stops nginx on an instance: out after two checks of ten seconds, in again after two more.
health_thresholds() {
  local group code=0
  group=$(output AutoScalingGroupName)
  aws autoscaling suspend-processes --auto-scaling-group-name "$group" --scaling-processes ReplaceUnhealthy HealthCheck
  on_instance "$1" 'systemctl stop nginx'
  within 60 is_in_health "$1" unhealthy || code=1
  answers "" 200 || code=1
  on_instance "$1" 'systemctl start nginx'
  within 90 is_in_health "$1" healthy || code=1
  aws autoscaling resume-processes --auto-scaling-group-name "$group"
  return $code
}

drain() {
  same "$(aws elbv2 describe-target-group-attributes --target-group-arn "$(output TargetGroupArn)" --output text \
    --query "Attributes[?Key=='deregistration_delay.timeout_seconds'].Value")" 30
}

oidc_thumbprint() {
  same "$(aws cloudformation describe-stack-resources --stack-name "$stack" --output text \
    --query "StackResources[?LogicalResourceId=='OidcProvider'].ResourceStatus")" CREATE_COMPLETE
}

# -------------------------------------------------------------------------------------------- the whole of it

# A release of the example site that says WORD at /proof.txt, promoted.
release() {
  rm -rf "$work/site"
  cp -R "$root/examples/site" "$work/site"
  printf '%s' "$1" >"$work/site/proof.txt"
  s3sync promote "$(s3sync publish "$work/site")"
}

promoted() { release first && within 60 serves proof.txt first && release second && within 60 serves proof.txt second; }
rolled_back() { s3sync rollback && within 60 serves proof.txt first; }

ask_questions_of_cloudformation() {
  claim template_size "51,200 bytes are taken, one more is refused" template_size
  claim depends_on_absent "DependsOn on a resource that is not there is refused" depends_on_absent
  claim if_in_creation_policy "CreationPolicy takes no Fn::If" if_in_creation_policy
  claim retain_except_on_create "a bucket of a failed creation is deleted again" retain_except_on_create
  claim user_data_limit "user data of 16,384 bytes is taken, one more is refused" user_data_limit
  claim namespace_length "a namespace of 255 characters is taken" namespace_length
  claim group_length "a dimension's value of 1,024 characters is taken" group_length
  claim aws_managed_topic_key "an alarm cannot publish to a topic under alias/aws/sns" aws_managed_topic_key
}

ask_the_stack() {
  claim promoted "a release goes live everywhere within a minute" promoted
  claim rolled_back "the release before is back within a minute" rolled_back
  claim log_test_object "the balancer wrote its test object when it was made" log_test_object
  claim lifecycle "delete markers expire by prefix" lifecycle
  claim heartbeats_expire "heartbeats and their versions expire" heartbeats_expire
  claim tls_only "S3 refuses what comes without TLS" tls_only
  claim drain "the balancer waits 30 s, as nginx does" drain
  claim alarm_delivers "an alarm reaches the topic" alarm_delivers "Successfully executed action" "$(resource BalancerErrors)"
  if [[ -n $(resource DeployRole) ]]; then
    claim oidc_thumbprint "GitHub's provider is made without a thumbprint" oidc_thumbprint
    not_asked immutable_subject "run .github/workflows/deploy.yml in $(output Site)'s repository"
  else
    not_asked oidc_thumbprint "no GitHubRepository was given"
    not_asked immutable_subject "no GitHubRepository was given, and only a job on GitHub has its token"
  fi
}

# What somebody on an instance can see; through Session Manager, which needs egress.
ask_an_instance() {
  local instance
  instance=$(one_instance)
  within 300 on_instance "$instance" true >/dev/null || true
  claim boot_log "user data in a private subnet ends with success" boot_log "$instance"
  claim console_output "the console has what the boot script said" within 300 console_output "$instance"
  claim new_role "an instance of a role that is minutes old fetches its bundle" boot_log "$instance"
  claim packages "Python 3.12 and nginx are Amazon's packages, python3 is 3.9" packages "$instance"
  claim aws_command "the image has awscli-2" aws_command "$instance"
  claim selinux "SELinux is permissive, and enforcing changes nothing for the site" selinux "$instance"
  claim imds "an instance that requires IMDSv2 fetches its bundle" imds "$instance"
  claim no_public_address "instances have no public address" no_public_address "$instance"
  claim latest_image "instances run the image that the parameter named" latest_image "$instance"
  claim nginx_modules "nginx has gzip_static and realip" nginx_modules "$instance"
  claim nginx_stop "nginx stops as its drop-in says" nginx_stop "$instance"
  claim forwarded_for "the balancer appends the visitor's address" forwarded_for
  claim health_check_host "health checks name the instance's address" health_check_host "$instance"
  claim idle_timeout "nginx keeps connections longer than the balancer" idle_timeout "$instance"
  claim region_from_metadata "the SDK learns the region from the metadata service" region_from_metadata "$instance"
  claim repository_through_s3 "packages come from the regional S3 bucket" repository_through_s3 "$instance"
  claim endpoint_policy "the S3 endpoint lets nothing else through" endpoint_policy "$instance"
  claim missing_key "a missing key is 404 in current/, 403 where listing is not allowed" missing_key "$instance"
  claim own_heartbeat "an instance writes its own heartbeat and nobody else's" own_heartbeat "$instance"
  claim instance_denied "an instance deletes no pointer and lists no bucket" instance_denied "$instance"
  claim health_thresholds "two checks take an instance out, two bring it back" health_thresholds "$instance"
  claim namespace_condition "an instance may write metrics into its namespace alone" namespace_condition "$instance"
}

ask_cloudwatch() {
  claim metrics_arrive "every metric arrives within five minutes" within 300 metrics_arrive
  claim one_metric_for_all "instances share their metrics" one_metric_for_all
  claim sample_count "SampleCount is the number of agents" within 600 sample_count
  claim missing_breaches "agents that are silent are an alarm, and the site stays" missing_breaches
}

ask_about_updates() {
  claim signals "instances signal CloudFormation" signals
  claim rolling_update "an update replaces every instance, and every request is answered" rolling_update
  claim size_stays "an update leaves the number of instances alone" size_stays
  claim refresh_skips "an instance refresh skips what is up to date" refresh_skips
  claim replaced_instance "an instance that is gone is replaced" replaced_instance
  claim log_bucket_key "the balancer writes its logs into a bucket with S3's own key" within 600 log_bucket_key
}

# not_asked_all WHY STEP…
not_asked_all() {
  local why=$1 step
  shift
  for step in "$@"; do not_asked "$step" "$why"; done
}

read_arguments() {
  while (($# > 0)); do
    case $1 in
      --stack) stack=$(value "$@"); shift 2 ;;
      --region) region=$(value "$@"); shift 2 ;;
      --keep) keep=1; shift ;;
      --yes) yes=1; shift ;;
      --help) usage; exit ;;
      [A-Z]*=*) parameters+=("$1"); shift ;;
      *) fail "what is $1?" "scripts/prove-on-aws.sh --help" 2 ;;
    esac
  done
}

# The end, whatever happened: no stack, and a summary.
finish() {
  local code=$?
  if [[ -z $started ]]; then
    say "stack $stack was not begun"
  elif [[ -n $keep ]]; then
    say "stack $stack stays, and costs: scripts/destroy.sh --stack $stack"
  else
    timeout 3600 "$root/scripts/destroy.sh" --stack "$stack" --yes >&2 ||
      { say "NOT GONE, it costs still: scripts/destroy.sh --stack $stack"; code=1; }
  fi
  rm -rf "$work"
  printf '\n%s proved, %s failed, %s not asked; %s, %s, commit %s\n\n' "${counted[@]}" "$region" "$(date -u +%F)" \
    "$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
  printf '| | step | |\n|---|---|---|\n%s' "$summary"
  ((counted[1] == 0)) || code=1
  exit "$code"
}

main() {
  local given chosen_egress=nat
  read_arguments "$@"
  for given in "${parameters[@]}"; do
    [[ $given != Egress=* ]] || chosen_egress=${given#*=}
  done
  egress none || parameters+=(SessionManager=yes)
  prepare
  [[ -z $(status) ]] || fail "there is a stack $stack already" "this one is destroyed at the end: choose another --stack" 2
  ask "Make the stack $stack, for one to two hours and about 1 US dollar?"
  yes=1
  work=$(mktemp -d)
  trap finish EXIT
  ask_questions_of_cloudformation
  started=1
  say "deploy the stack"
  deploy "${parameters[@]}"
  S3SYNC_SITE=$(output Site)
  export S3SYNC_SITE
  say "ask"
  ask_the_stack
  if egress none; then
    claim boots_without_egress "without egress the site is served" within 900 answers "" 200
    not_asked_all "Egress=none: no shell, no signals, no metrics" boot_log new_role packages aws_command selinux imds \
      console_output no_public_address latest_image nginx_modules nginx_stop forwarded_for health_check_host idle_timeout \
      region_from_metadata repository_through_s3 endpoint_policy missing_key own_heartbeat instance_denied \
      health_thresholds namespace_condition metrics_arrive one_metric_for_all sample_count missing_breaches \
      signals rolling_update size_stays refresh_skips replaced_instance log_bucket_key if_in_metadata
  else
    not_asked boots_without_egress "Egress=$chosen_egress; run it with Egress=none"
    ask_an_instance
    ask_cloudwatch
    if egress nat; then
      claim if_in_metadata "the group began after the route that its Metadata names" if_in_metadata
    else
      not_asked if_in_metadata "Egress=$chosen_egress has no NAT route"
    fi
    ask_about_updates
  fi
  if egress endpoints; then
    claim monitoring_endpoint "metrics arrive through the endpoint" metrics_arrive
  else
    not_asked monitoring_endpoint "Egress=$chosen_egress; run it with Egress=endpoints"
  fi
}

main "$@"
