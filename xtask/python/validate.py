"""AWS's own validation, with our rules in Guard beside it: validate.py RULES TEMPLATE...

Fails on a warning or worse. The raw SAM template is not for it: its own copy of the transform does
not know the `Schedule` of a function's event (1.14.0).
"""

import sys

from cloudformation_validate import (
    CompositeEngine,
    CompositeEngineConfig,
    ResourceTypeFilter,
    RuleFilterConfig,
    Severity,
    ValidateConfig,
    file_to_external_rule_source,
)

# What it finds and we leave, with the reason.
LEFT = RuleFilterConfig(
    resource_types=[
        # SAM gives a version its DeletionPolicy; the version that another replaces is not needed.
        ResourceTypeFilter(rule_id="W3011", resource_type="AWS::Lambda::Version"),
    ]
)

rules, *templates = sys.argv[1:]
engine = CompositeEngine(CompositeEngineConfig(guard_rules=[file_to_external_rule_source(rules)]))
config = ValidateConfig(exclude=LEFT, severity_level=Severity.WARN)
found = 0
for template in templates:
    for finding in engine.validate_template(template, config).diagnostics:
        found += 1
        where = finding.entity.logical_id if finding.entity else "the template"
        print(f"{template}: {finding.rule_id} {where}: {finding.message}", file=sys.stderr)
sys.exit(1 if found else 0)
