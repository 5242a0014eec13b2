-- Requests for wrk: one GET after another, each with the next token of a file, and a summary as one line of JSON.
-- Arguments after `--`: the file of tokens (one a line; "none": no Authorization header), and the mean pause between
-- two requests of a connection in milliseconds (0: no pause).

local requests = {}
local position = 0

function init(arguments)
  local token_file, pause = arguments[1], tonumber(arguments[2])
  if token_file == "none" then
    requests[1] = wrk.format("GET")
  else
    for token in io.lines(token_file) do
      requests[#requests + 1] = wrk.format("GET", nil, { ["Host"] = wrk.headers["Host"], ["Authorization"] = "Bearer " .. token })
    end
  end
  if pause > 0 then
    -- wrk looks for this global after init. Spread evenly, so that the connections do not beat in step.
    function delay()
      return math.random(0, 2 * pause)
    end
  end
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"status_errors":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
