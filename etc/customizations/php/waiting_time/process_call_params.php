<?php
// Writes into the call's result how long the client waited for an answer.

$channel = $params['call_full']['channel'];
if ($channel['was_answered']) {
    $waited = strtotime($channel['answer_time']) - strtotime($channel['start_time']);
    $params['call_result'] = 'Waited ' . $waited . ' s';
}

return array('state' => 'success', 'data' => $params);
