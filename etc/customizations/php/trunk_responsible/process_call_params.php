<?php
// A missed incoming call belongs to whoever looks after the trunk that it came through: user ids of Kommo.

$responsible = array('PJSIP/shop' => 9100001, 'PJSIP/service' => 9100002);
$call = $params['call_full'];
$trunk = $call['channel']['trunk']['number'];

if ($params['direction'] === 'inbound' && $call['result'] !== 200 && isset($responsible[$trunk])) {
    $params['responsible_user_id'] = $responsible[$trunk];
}

return array('state' => 'success', 'data' => $params);
