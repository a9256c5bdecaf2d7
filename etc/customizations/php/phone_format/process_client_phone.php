<?php
// Kommo holds Russian numbers as 8..., the carrier sends +7...: one form before anything is looked up or written.

$phone = preg_replace('/^(?:\+7|7|8)(\d{10})$/', '8$1', $params['phone']);

return array('state' => 'success', 'data' => array('phone' => $phone));
