-- Finds the model that a request is for and sends it to that model's service. Whoever reads this: a request is hostile.
-- CONFIG is put before this text: domain, models (a set, or nil for all), backends, methods, max_name, reserved.

local MODEL = "x-zeroserve-gateway-model"
local MAX_VARINT_BYTES = 10
local MAX_FIELDS = 64
local FIELD_ONE = 10 -- the tag of field 1 with a length

local function refuse(handle, status, text, grpc_status)
  local headers = { [":status"] = status }
  if grpc_status and (handle:headers():get("content-type") or ""):sub(1, 16) == "application/grpc" then
    headers["grpc-status"] = grpc_status
  end
  handle:respond(headers, text)
end

-- The service of a model, or nil for a name that no service can have. What is let through here is part of a host name.
local function service_of(model)
  if #model > CONFIG.max_name or not model:find("^%a[%w_-]*$") or not model:find("%w$") then return nil end
  local service = model:lower():gsub("_", "-")
  if service:sub(1, #CONFIG.reserved) == CONFIG.reserved then return nil end
  if CONFIG.models and not CONFIG.models[service] then return nil end
  return service
end

-- A base-128 number of the bytes `data` at `at`, and where it ends; nil where there is none.
local function varint(data, at)
  local value, scale = 0, 1
  for i = at, at + MAX_VARINT_BYTES - 1 do
    local byte = data:byte(i)
    if not byte then return nil end
    value = value + (byte % 128) * scale
    if byte < 128 then return value, i + 1 end
    scale = scale * 128
  end
  return nil
end

-- Where the content of the first field 1 of the message in body[first, last) is; zero-based. `read(at, size)` copies.
-- Who writes messages writes field 1 first; one that comes late is looked for a little, not through millions of fields.
local function field_one(read, first, last)
  local at = first
  for _ = 1, MAX_FIELDS do
    if at >= last then return nil end
    local head = read(at, math.min(2 * MAX_VARINT_BYTES, last - at))
    local tag, next = varint(head, 1)
    if not tag then return nil end
    local size = 0
    local wire = tag % 8
    if wire == 0 then
      _, next = varint(head, next)
    elseif wire == 1 then
      size = 8
    elseif wire == 2 then
      size, next = varint(head, next)
    elseif wire == 5 then
      size = 4
    else
      return nil
    end
    if not next or at + next - 1 + size > last then return nil end
    local begin = at + next - 1
    at = begin + size
    if tag == FIELD_ONE then return begin, at end
  end
  return nil
end

-- The model of a gRPC call: field 1, `depth` messages deep, of the first and only message. Or nil and why not.
local function model_of_message(handle, depth)
  local body = handle:body()
  local size = body and body:length() or 0
  if size < 5 then return nil, "the call has no message" end
  local function read(at, length) return body:getBytes(at, length) end
  if read(0, 1):byte() ~= 0 then
    return nil, "the message is compressed: name the model in the metadata x-zeroserve-model"
  end
  local first, last = 5, size
  for _ = 1, depth do
    first, last = field_one(read, first, last)
    if not first then return nil, "the message names no model" end
  end
  if last - first > CONFIG.max_name then return nil, "the message names no model that there can be" end
  return read(first, last - first)
end

local function model_of(handle, headers, path)
  local grpc = (headers:get("content-type") or ""):sub(1, 16) == "application/grpc"
  if grpc then
    local depth = CONFIG.methods[path]
    if not depth then return nil, "404", "no method of models: " .. path, "12" end
    -- The message decides where it can be read: limits are counted for the model that answers, whatever is said beside.
    local said = headers:get("x-zeroserve-model")
    local model, why = model_of_message(handle, depth)
    if said and model and said ~= model then
      return nil, "400", "the metadata x-zeroserve-model names another model than the message", "3"
    end
    model = model or said
    if not model then return nil, "400", why, "3" end
    return model
  end
  local model, after = path:match("^/v[12]/models/([^/:]+)(.*)$")
  if not model then return nil, "404", "no path of models: wanted /v1/models/NAME:predict or /v2/models/NAME/infer" end
  if after ~= "" and not after:find("^[/:]") then return nil, "404", "no path of models" end
  return model
end

function envoy_on_request(handle)
  local path = (handle:headers():get(":path") or ""):match("^[^?]*")
  local model, status, why, grpc_status = model_of(handle, handle:headers(), path)
  if not model then return refuse(handle, status, why, grpc_status) end
  local service = service_of(model)
  if not service then return refuse(handle, "404", "no model of that name can be called here", "5") end
  -- Asked for again: what was got before the body came is no longer valid.
  local headers = handle:headers()
  headers:replace(":authority", CONFIG.backends[service] or (service .. CONFIG.domain))
  headers:replace(MODEL, service)
  handle:clearRouteCache()
end
