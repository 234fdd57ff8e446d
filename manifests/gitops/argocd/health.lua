-- The health of a KVCluster for Argo CD, from its conditions; Argo's interpreter has no string library.
-- Degraded fails a sync at once, so what is on its way stays Progressing though a member is away meanwhile.
local on_its_way = {
  Bootstrapping = true,
  Waking = true,
  ChangingMembers = true,
  LearnerBehind = true,
  ClusterUnsettled = true,
  HandingOver = true,
  Migrating = true,
  Rolling = true,
  ChangePending = true,
  FallingAsleep = true,
}

local function health(status, message)
  return { status = status, message = message }
end

local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, reconciling = conditions.Ready, conditions.Reconciling

local function is_true(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

if ready == nil or (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return health("Progressing", "the operator has not seen this specification yet")
end
if is_true("Stalled") then
  return health("Degraded", conditions.Stalled.reason .. ": " .. conditions.Stalled.message)
end
if is_true("Degraded") and not (is_true("Reconciling") and on_its_way[reconciling.reason]) then
  return health("Degraded", conditions.Degraded.reason .. ": " .. ready.message)
end
if obj.spec.paused then
  return health("Suspended", "paused: " .. ready.message)
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
return health("Progressing", ready.reason .. ": " .. ready.message)
