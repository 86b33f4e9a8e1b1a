"""Transforms the SAM template as CloudFormation would, which cfn-lint does not do, and checks what comes out."""

import json
import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from cfnlint.decode import cfn_yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

template = cfn_yaml.load("deploy/sam/template.yaml")
template["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://bucket/key"  # what `sam package` puts there
out = Translator({}, Parser()).translate(template, {})
found = {}
for name, resource in out["Resources"].items():
    found.setdefault(resource["Type"], []).append(resource.get("Properties", {}))

problems = []
wanted = {
    "AWS::Lambda::Function": 1, "AWS::Lambda::Url": 1, "AWS::ApiGatewayV2::Api": 1, "AWS::ApiGatewayV2::Stage": 1,
    "AWS::S3::Bucket": 1, "AWS::IAM::Role": 1, "AWS::Logs::LogGroup": 2,
}
for kind, want in wanted.items():
    if len(found.get(kind, [])) != want:
        problems.append(f"{len(found.get(kind, []))} of {kind}, want {want}")
function = found["AWS::Lambda::Function"][0]
if function["Architectures"] != ["arm64"] or function["Runtime"] != "provided.al2023" or function["Handler"] != "bootstrap":
    problems.append(f"the function is {function}")
for stage in found["AWS::ApiGatewayV2::Stage"]:
    condition, log, otherwise = stage["AccessLogSettings"]["Fn::If"]
    if condition != "LogAccess" or otherwise != {"Ref": "AWS::NoValue"} or log["DestinationArn"] != {"Fn::GetAtt": ["ApiLog", "Arn"]}:
        problems.append(f"the access log of the API is {stage['AccessLogSettings']}")
    line = json.loads(log["Format"])
    if line.get("requestId") != "$context.requestId" or line.get("integrationRequestId") != "$context.integration.requestId":
        problems.append(f"a line of the access log says {line}")
for role in found["AWS::IAM::Role"]:
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if any("*" in a for a in actions) or statement["Resource"] == "*":
                problems.append(f"the role may do more than it needs: {statement}")
    if role.get("ManagedPolicyArns"):
        problems.append(f"the role has managed policies: {role['ManagedPolicyArns']}")
if problems:
    sys.exit("\n".join(problems))
print(f"SAM template: transforms to {len(out['Resources'])} resources")
